package event

import (
	"bytes"
	"errors"
	"slices"

	"sluice/internal/contract"
)

// The errors of events that the contract leaves out. They are no faults.
var (
	ErrDropped = errors.New("event: dropped, as its contract says")
	ErrSampled = errors.New("event: not in the sample that its contract keeps")
)

// leaveOut returns ErrDropped or ErrSampled if the contract leaves the event out.
func (d *fastDecoder) leaveOut() error {
	for i := range d.plan.contract.Drop {
		if d.meets(&d.plan.contract.Drop[i]) {
			return ErrDropped
		}
	}
	if s := d.plan.contract.Sample; s != nil {
		if text, ok := d.textOf(int32(s.Column)); ok && !sampled(text, s.Keep) {
			return ErrSampled
		}
	}
	return nil
}

// meets reports whether the event meets the condition.
func (d *fastDecoder) meets(c *contract.Condition) bool {
	text, ok := d.textOf(int32(c.Column))
	return ok && slices.ContainsFunc(c.Values, func(v string) bool { return v == string(text) })
}

// textOf returns what conditions compare of a field of the event: the characters of a
// string, the digits of a number, true or false, as they were sent.
func (d *fastDecoder) textOf(field int32) ([]byte, bool) {
	if d.filled[field] == d.scope {
		return d.kept[field], d.kept[field] != nil
	}
	f := &d.plan.fields[field]
	return f.defaultText, f.byDefault != nil
}

// sampled reports whether a value is in the share of values that is kept. The hash is
// FNV-1a of 64 bits, finished as MurmurHash3 does, whose bits are even for short texts too:
// see http://www.isthe.com/chongo/tech/comp/fnv/ and
// https://github.com/aappleby/smhasher/wiki/MurmurHash3. It is the same for ever, so that a
// user is in the sample of today if he was in that of yesterday.
func sampled(text []byte, keep float64) bool {
	h := uint64(14695981039346656037)
	for _, c := range text {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return float64(h>>11) < keep*(1<<53)
}

// keepText notes the text of a field's value for textOf.
func (d *fastDecoder) keepText(field int32, raw []byte) {
	switch raw[0] {
	case '{', '[':
		raw = nil
	case '"':
		raw = raw[1 : len(raw)-1]
		if bytes.IndexByte(raw, '\\') >= 0 {
			raw = d.keepEscaped(raw)
		}
	}
	d.kept[field] = raw
}

// keepEscaped returns what a string means, for the time of the event.
func (d *fastDecoder) keepEscaped(text []byte) []byte {
	d.special = true
	from := len(d.keptText)
	d.keptText = appendUnescaped(d.keptText, text)
	return d.keptText[from:]
}
