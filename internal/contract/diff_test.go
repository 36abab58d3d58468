package contract

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Protects a deployment from changes that BigQuery would refuse half-way: what is additive is
// told from what breaks as BigQuery tells it.
func TestDiff(t *testing.T) {
	const head = "contract: 1\ntopics: t\nrest: drop\ncolumns:\n- {name: k, type: STRING}\n"
	for _, test := range []struct{ old, now, want string }{
		{"", "", ""},
		{"", "- {name: a, type: INT64}\n", "+ column a is new: NULLABLE INT64"},
		{"", "- {name: a, type: INT64, mode: REPEATED}\n", "+ column a is new: REPEATED INT64"},
		{"", "- {name: a, type: INT64, mode: REQUIRED}\n", "! column a is new and REQUIRED"},
		{"- {name: a, type: INT64}\n", "", "+ column a is gone"},
		{"- {name: a, type: INT64, mode: REQUIRED}\n", "", "! column a is gone and is REQUIRED"},
		{"- {name: a, type: INT64, mode: REQUIRED}\n", "- {name: a, type: INT64}\n", "+ column a is no longer REQUIRED"},
		{"- {name: a, type: INT64}\n", "- {name: a, type: INT64, mode: REQUIRED}\n", "! column a changes from NULLABLE to REQUIRED"},
		{"- {name: a, type: INT64}\n", "- {name: a, type: INT64, mode: REPEATED}\n", "! column a changes from NULLABLE to REPEATED"},
		{"- {name: a, type: INT64}\n", "- {name: a, type: NUMERIC}\n", "+ column a widens from INT64 to NUMERIC"},
		{"- {name: a, type: NUMERIC}\n", "- {name: a, type: INT64}\n", "! column a changes from NUMERIC to INT64"},
		{"- {name: a, type: STRING}\n", "- {name: a, type: JSON}\n", "! column a changes from STRING to JSON"},
		{"- {name: a, type: STRING(5)}\n", "- {name: a, type: STRING(9)}\n", "+ column a widens from STRING(5) to STRING(9)"},
		{"- {name: a, type: STRING}\n", "- {name: a, type: STRING(9)}\n", "! column a narrows"},
		{"- {name: a, type: 'NUMERIC(5,2)'}\n", "- {name: a, type: 'NUMERIC(5,3)'}\n", "! column a narrows"},
		{"- {name: a, type: 'NUMERIC(5,2)'}\n", "- {name: a, type: 'NUMERIC(7,3)'}\n", "+ column a widens"},
		{"- {name: a, type: RANGE<DATE>}\n", "- {name: a, type: RANGE<DATETIME>}\n", "! column a changes from RANGE<DATE>"},
		{"- {name: a, type: RECORD, columns: [{name: b, type: INT64}]}\n", "- {name: a, type: RECORD, columns: [{name: b, type: INT64}, {name: d, type: DATE}]}\n", "+ column a.d is new"},
		{"- {name: a, type: RECORD, columns: [{name: b, type: INT64}]}\n", "- {name: a, type: RECORD, columns: [{name: b, type: DATE}]}\n", "! column a.b changes"},
		{"- {name: a, type: DATE}\ntable: {partition_by: a}\n", "- {name: a, type: DATE}\n", "! the table's partitions change from a by day to none"},
		{"- {name: a, type: DATE, range: {oldest: 8d}}\ntable: {partition_by: a}\n", "- {name: a, type: DATE, range: {oldest: 8d}}\ntable: {partition_by: {column: a, expire: 9d}}\n", "+ the partitions expire after 9 days, no longer after never"},
		{"table: {cluster_by: k}\n", "", "+ the table is clustered by nothing, no longer by k"},
		{"event: {id: k}\n", "", "+ the view c_once tells copies by nothing, no longer by k"},
		{"", "table: {name: other}\n", "+ the rows go to the new table other"},
	} {
		read := func(rest string) *Contract {
			c, err := Read("c.yaml", []byte(head+rest))
			if err != nil {
				t.Fatalf("%s: %v", rest, err)
			}
			return c
		}
		var lines []string
		for _, change := range read(test.now).Diff(read(test.old)) {
			lines = append(lines, map[bool]string{true: "! ", false: "+ "}[change.Breaking]+change.What)
		}
		if got := strings.Join(lines, "\n"); (test.want == "") != (got == "") || !strings.HasPrefix(got, test.want) ||
			len(lines) > 1 {
			t.Errorf("from\n%sto\n%s:\n%s\nwant %s", test.old, test.now, got, test.want)
		}
	}
}

// Protects the tables that are made of contracts: what Schema writes, Parse reads, and the
// statements name all that the contract says.
func TestSchemaAndDDL(t *testing.T) {
	text, _ := testdata.ReadFile("testdata/shop_events.yaml")
	c, err := Read("shop_events.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(c.Table.Name, c.Table.Schema())
	if diff := cmp.Diff(c.Table, again); err != nil || diff != "" {
		t.Errorf("%v (-want, +got):\n%s", err, diff)
	}
	ddl := c.DDL("p.clickstream")
	for _, want := range []string{
		"CREATE TABLE `p.clickstream.shop_events` (\n  event_id STRING(64) NOT NULL,\n",
		"  revenue NUMERIC(10, 2),\n", "  products ARRAY<STRUCT<sku STRING NOT NULL, price NUMERIC>>,\n", "  validity RANGE<DATE>,\n",
		"PARTITION BY TIMESTAMP_TRUNC(occurred_at, MONTH)\nCLUSTER BY event_name, user_id\n",
		`OPTIONS (description = "What the shop sends.", partition_expiration_days = 400);`,
		"CREATE VIEW `p.clickstream.shop_events_once` AS\nSELECT *\nFROM `p.clickstream`.shop_events\n", "PARTITION BY event_id, occurred_at\n",
	} {
		if !strings.Contains(ddl, want) {
			t.Errorf("%s\nlacks %s", ddl, want)
		}
	}
	// The built-in contract's view is the file that Terraform deploys.
	builtIn, err := Preset("clickstream")
	if err != nil {
		t.Fatal(err)
	}
	file, err := SQL("events", "d")
	if err != nil {
		t.Fatal(err)
	}
	_, file, _ = strings.Cut(file, "SELECT")
	_, view, _ := strings.Cut(builtIn.View("d"), "SELECT")
	if diff := cmp.Diff(strings.TrimSpace(file), strings.TrimSpace(view)); diff != "" {
		t.Errorf("the view (-file, +contract):\n%s", diff)
	}
}
