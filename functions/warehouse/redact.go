package warehouse

import (
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// logText is the text of a gRPC error as it may be logged. BigQuery's refusals of
// arguments may quote a row, all other errors are about the service.
func logText(err error) string {
	if errors.Is(err, io.EOF) {
		return "BigQuery has ended it"
	}
	st, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}
	if st.Code() == codes.InvalidArgument {
		return st.Code().String() + ": " + redact(st.Message())
	}
	return st.Code().String() + ": " + st.Message()
}

// redact leaves of BigQuery's words what names columns and types, and takes out what
// can be a value: what stands in quotes, as its values do, and words with anything but
// letters, underscores and punctuation. The refusal of a schema stays readable:
//
//	The proto field mismatched with BigQuery field at root.campaign, the proto field type string, BigQuery field type INTEGER
func redact(s string) string {
	const most = 300
	var kept []string
	var quote rune // within a quotation, how it ends
	size := 0
	for word := range strings.FieldsSeq(s) {
		clean := quote == 0
		for _, r := range word {
			switch {
			case quote != 0:
				if r == quote {
					quote = 0
				}
			case r == '"' || r == '\'' || r == '`':
				quote, clean = r, false
			case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("_.,;:()-", r):
			default:
				clean = false
			}
		}
		if !clean {
			word = "…"
		}
		if word == "…" && len(kept) > 0 && kept[len(kept)-1] == "…" {
			continue
		}
		if size += len(word) + 1; size > most {
			break
		}
		kept = append(kept, word)
	}
	return strings.Join(kept, " ")
}
