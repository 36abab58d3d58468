package event

import (
	"fmt"
	"testing"

	"sluice/internal/contract"
)

// Protects the decoder's memory from events with ever new names: it forgets, and
// goes on deciding rightly.
func TestNamesAreForgotten(t *testing.T) {
	d := newDiffer(t, contract.FactEvents())
	n := &d.fast.fast.names
	for i := range 5000 {
		d.compare(t, []byte(with(fmt.Sprintf(`"n%d":1,"m%d":{"o%d":2}`, i, i, i))))
		if i%100 == 0 {
			d.compare(t, []byte(with(`"page_url":"x","product_id":"y"`)))
			d.compare(t, []byte(with(`"user_id":"x"`)))
		}
	}
	if most := maxNames + n.own + 8; len(n.list) > most || len(n.text) > 64*most {
		t.Errorf("%d names of %d bytes are kept, want %d at most", len(n.list), len(n.text), most)
	}
	// One event may have more than are kept.
	many := []byte(good[:len(good)-1])
	for i := range 20_000 {
		many = fmt.Appendf(many, `,"name_%d":%d`, i, i)
	}
	large := newDecoder(t, contract.FactEvents(), Config{})
	for _, c := range []struct {
		end  string
		code contract.Code
	}{{`}`, ""}, {`,"name_0":1}`, contract.CodeDuplicateName}, {`,"name_19999":1}`,
		contract.CodeDuplicateName}, {`,"\u006eame_5":1}`, contract.CodeDuplicateName}, {`}`, ""}} {
		_, err := large.AppendRow(nil, append(many[:len(many):len(many)], c.end...), meta)
		if code := codeOf(err); code != c.code {
			t.Errorf("20,000 names and %s: %v, want %q", c.end, err, c.code)
		}
	}
	if _, err := large.AppendRow(nil, []byte(good), meta); err != nil {
		t.Fatal(err)
	}
	if slots := len(large.fast.names.slots); slots > keptSlots {
		t.Errorf("%d slots are kept after an event of 20,000 names, want %d at most", slots, keptSlots)
	}
}

func codeOf(err error) contract.Code {
	if r, ok := err.(*Rejection); ok {
		return r.Code
	}
	return ""
}

// Protects what is predicted: it becomes right for what producers send, so that the
// ordinary way is the exception. (Results do not depend on it; the price does.)
func TestNamesArePredicted(t *testing.T) {
	events, _ := corpus(t, 5000, 0)
	d := newDecoder(t, contract.FactEvents(), Config{})
	n := &d.fast.names
	for _, value := range events {
		if _, err := d.AppendRow(nil, value, meta); err != nil {
			t.Fatal(err)
		}
	}
	known := n.known
	for _, value := range events {
		if _, err := d.AppendRow(nil, value, meta); err != nil {
			t.Fatal(err)
		}
	}
	if n.known != known || known > 200 {
		t.Errorf("%d gaps after the first time, %d after the second: want the same, and fewer than 200", known, n.known)
	}
}
