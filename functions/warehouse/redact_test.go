package warehouse

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Protects personal data in BigQuery's words, and operators' use of these words.
func TestLogText(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{status.Error(codes.InvalidArgument, "The proto field mismatched with BigQuery field at root.campaign, the proto field type string, BigQuery field type INTEGER"),
			"InvalidArgument: The proto field mismatched with BigQuery field at root.campaign, the proto field type string, BigQuery field type INTEGER"},
		{status.Error(codes.InvalidArgument, "Invalid JSON: syntax error; last read: 'jane doe', column properties"), "InvalidArgument: Invalid JSON: syntax error; last read: … column …"},
		{status.Error(codes.InvalidArgument, "Invalid value jane for column email"), "InvalidArgument: Invalid value … for column …"},
		{status.Error(codes.Internal, "Cannot parse jane doe as INT64"), "Internal: Cannot parse … as INT64"},
		{status.Error(codes.Unknown, "jane"), "Unknown: …"},
		{status.Error(codes.OutOfRange, "value 99999 of jane is out of range"), "OutOfRange: value … of … is out of range"},
		{status.Error(codes.FailedPrecondition, "Stream is finalized: jane"), "FailedPrecondition: Stream is finalized: …"},
		{status.Error(codes.Aborted, "root.jane@example.com"), "Aborted: …"},
		{status.Error(codes.ResourceExhausted, "Quota exceeded for projects/p1"), "ResourceExhausted: Quota exceeded for projects/p1"},
		{status.Error(codes.InvalidArgument, "value 4711 of jane@example.com is \"bad one\""), "InvalidArgument: value … of … is …"},
		{status.Error(codes.InvalidArgument, "an 'open quotation that never ends"), "InvalidArgument: an …"},
		{status.Error(codes.NotFound, "Requested entity was not found. Entity: projects/p1/datasets/d"), "NotFound: Requested entity was not found. Entity: projects/p1/datasets/d"},
		{errors.New("of our own"), "of our own"},
	} {
		if got := logText(test.err); got != test.want {
			t.Errorf("%q\nwant %q", got, test.want)
		}
	}
	if n := len(redact(strings.Repeat("word ", 1000))); n > 300 {
		t.Errorf("%d bytes", n)
	}
}
