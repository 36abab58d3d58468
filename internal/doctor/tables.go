package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/googleapi"

	"sluice/internal/contract"
)

// Tables looks whether the tables of the contracts are there and fit them, and events_dlq too.
func Tables(ctx context.Context, client *bigquery.Client, dataset string, contracts []*contract.Contract) []Finding {
	var found []Finding
	wanted := []*contract.Table{contract.EventsDLQ()}
	if contract.LeavesOut(contracts) {
		wanted = append(wanted, contract.EventsLeftOut())
	}
	for _, c := range contracts {
		wanted = append(wanted, c.Table)
	}
	for _, t := range wanted {
		f := table(ctx, client, dataset, t)
		found = append(found, f)
		if f.State == Unknown {
			break // what cannot be asked for one cannot be asked for the next
		}
	}
	return found
}

func table(ctx context.Context, client *bigquery.Client, dataset string, want *contract.Table) Finding {
	what := "table " + dataset + "." + want.Name
	md, err := client.Dataset(dataset).Table(want.Name).Metadata(ctx)
	var refused *googleapi.Error
	switch {
	case err == nil:
	case errors.As(err, &refused) && refused.Code == http.StatusNotFound:
		return failed(what, "not there", "./scripts/deploy makes it; its events wait in Pub/Sub until then")
	case errors.As(err, &refused) && refused.Code == http.StatusForbidden:
		return failed(what, "may not be read: "+refused.Message,
			"give this account roles/bigquery.metadataViewer on the dataset")
	default:
		return Finding{State: Unknown, What: what, Said: err.Error(),
			Remedy: "see whether the project and the dataset are right, and the network"}
	}
	schema, err := md.Schema.ToJSONFields()
	if err != nil {
		return Finding{State: Unknown, What: what, Said: err.Error()}
	}
	have, err := contract.Parse(want.Name, schema)
	if err != nil {
		return failed(what, "has columns that no contract can have: "+err.Error(), "name another table in the contract")
	}
	missing, wrong := misfits("", want.Columns, have.Columns)
	switch {
	case len(wrong) > 0:
		return failed(what, strings.Join(wrong, "; "),
			"name a new table in the contract, or mend this one: its events wait in Pub/Sub until then")
	case len(missing) > 0:
		return failed(what, "lacks "+strings.Join(missing, ", "),
			"./scripts/deploy adds them; events wait in Pub/Sub until then")
	}
	return ok(what, "there, %d rows, with all %d columns", md.NumRows, len(want.Columns))
}

// misfits says which columns a table lacks, and what of it does not fit. A column that it has besides is no misfit,
// unless each row must have it.
func misfits(path string, want, have []contract.Column) (missing, wrong []string) {
	named := map[string]contract.Column{}
	for _, c := range have {
		named[strings.ToLower(c.Name)] = c
	}
	for _, w := range want {
		h, there := named[strings.ToLower(w.Name)]
		delete(named, strings.ToLower(w.Name))
		name := path + w.Name
		switch {
		case !there && w.Required:
			wrong = append(wrong, name+" is missing, and cannot be added because it is REQUIRED")
		case !there:
			missing = append(missing, name)
		case h.Type != w.Type || h.Element != w.Element:
			wrong = append(wrong, fmt.Sprintf("%s is %s and the contract says %s", name, h.Type, w.Type))
		case h.Repeated != w.Repeated:
			wrong = append(wrong, fmt.Sprintf("%s is %s and the contract says %s", name, mode(h), mode(w)))
		case h.Required && !w.Required:
			wrong = append(wrong, name+" is REQUIRED and the contract says NULLABLE: events without it are refused")
		case w.Type == contract.Record:
			m, x := misfits(name+".", w.Columns, h.Columns)
			missing, wrong = append(missing, m...), append(wrong, x...)
		}
	}
	for _, h := range have {
		if _, besides := named[strings.ToLower(h.Name)]; besides && h.Required {
			wrong = append(wrong, path+h.Name+" is REQUIRED and the contract has no such column: every row is refused")
		}
	}
	return missing, wrong
}

func mode(c contract.Column) string {
	switch {
	case c.Repeated:
		return "REPEATED"
	case c.Required:
		return "REQUIRED"
	}
	return "NULLABLE"
}
