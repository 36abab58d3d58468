package event

import (
	"errors"
	"strings"
	"testing"
	"time"

	"sluice/internal/contract"
)

// Protects that nothing of what an event has left behind, however large it was, is looked at for an event after it that
// is rejected halfway.
func TestLeftoversOfTheEventBefore(t *testing.T) {
	c, err := contract.Read("c.yaml", []byte(`
contract: 1
name: orders
topics: orders
bare: true
limits: {max_bytes: 8000000}
table: {name: orders}
columns:
  - {name: n, type: INT64}
  - name: item
    type: RECORD
    columns: [{name: sku, type: STRING}]
  - name: items
    type: RECORD
    mode: REPEATED
    from: [items, lines]
    columns: [{name: sku, type: STRING}]
  - {name: other, type: JSON, rest: true}
`))
	if err != nil {
		t.Fatal(err)
	}
	large := `{"sku":"1","x":"` + strings.Repeat("x", 2*keptScratch) + `"}`
	for _, rejected := range []string{
		`{"items":[5],"x":1e400}`,
		`{"lines":[5],"x":1e400}`,
		`{"items":7,"x":1e400}`,
		`{"n":"no","item":{"sku":"1","y":1},"x":1e400}`,
		`{"n":"no","lines":[{"sku":"1","y":1}],"x":1e400}`,
		`{"item":5,"x":1e400}`,
		`{"items":[{"sku":"1","y":1},{"y":`,
	} {
		d, err := New(c, Fast, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		for _, event := range []string{`{"item":` + large + `,"items":[{"y":1},` + large + `]}`, `{}`} {
			if _, err := d.AppendRow(nil, []byte(event), Meta{}); err != nil {
				t.Fatal(err)
			}
		}
		_, err = d.AppendRow(nil, []byte(rejected), Meta{})
		if _, ok := errors.AsType[*Rejection](err); !ok {
			t.Errorf("%s: %v, want a rejection", rejected, err)
		}
	}
}
