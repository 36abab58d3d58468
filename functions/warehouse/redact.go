package warehouse

import (
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ofService are the codes whose errors are about the service and what it is asked of: they name projects, tables and
// quotas. All others may be about a row, and quote it.
var ofService = map[codes.Code]bool{
	codes.Unavailable: true, codes.DeadlineExceeded: true, codes.Canceled: true, codes.ResourceExhausted: true,
	codes.PermissionDenied: true, codes.Unauthenticated: true, codes.NotFound: true, codes.Unimplemented: true,
}

// logText is the text of a gRPC error as it may be logged.
func logText(err error) string {
	if errors.Is(err, io.EOF) {
		return "BigQuery has ended it"
	}
	st, ok := status.FromError(err)
	switch {
	case !ok:
		return err.Error()
	case ofService[st.Code()]:
		return st.Code().String() + ": " + st.Message()
	}
	return st.Code().String() + ": " + redact(st.Message())
}

// words are those that BigQuery's refusals are made of, in small letters: what its emulators, its documentation and its
// answers in the field have been seen to say. A word that is not among them may be a value.
var words = func() map[string]bool {
	known := make(map[string]bool)
	for word := range strings.FieldsSeq(`
a an the this that these of at in on by for from to with without within into as and or not no is are was were be been has have had
cannot can could must may should does do did will would if when while because since before after than more less most least only also
all any each every some other same different first last next one two

bigquery storage write api proto protobuf protocol buffer buffers field fields message messages descriptor schema schemas table tables
dataset datasets project column columns row rows record records struct array value values type types mode modes name names
stream streams offset append appendrows request requests response error errors entity entities resource partition partitions partitioned
clustering cluster time timestamp date datetime interval json string bytes integer int64 float float64 double numeric bignumeric bool boolean
geography range repeated nullable required optional null true false empty default enum

invalid unknown unexpected unsupported missing mismatch mismatched incompatible malformed duplicate extra internal external encountered
found expected got given specified provided supplied allowed exceeded exceeds exceed outside between above below too large small long short
limit limits quota size length maximum minimum max min number count bytes characters depth level levels precision scale digits
parse parsed parsing read reading written write writing convert converted converting conversion decode decoded encode encoded deserialize
serialize serialization syntax format round-trip through representation overflow underflow out bounds utf-8 utf8
failed failure fails fail rejected refused retry retried again later closed finalized committed already exists exist deleted updated changed
permission denied access account user identity

root data input output near position line byte index path key please see details code status reason cause due set unset use used using
`) {
		known[word] = true
	}
	return known
}()

// redact leaves of BigQuery's words what names types and says what is wrong, and the path of a field behind "root.",
// which is a column's; it takes out what can be a value: what stands in quotes, as its values do, and every word that
// is not one of BigQuery's own. The refusal of a schema stays readable:
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
			}
		}
		if !clean || !ownWord(word) {
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

// ownWord reports whether a word is one of BigQuery's, or the path of a column.
func ownWord(word string) bool {
	word = strings.Trim(word, ".,;:()")
	if path, ok := strings.CutPrefix(word, "root."); ok {
		return strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.") == ""
	}
	return word == "" || word == "-" || words[strings.ToLower(word)]
}
