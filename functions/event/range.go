package event

import (
	"bytes"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/contract"
)

var (
	problemRangeText = &problem{contract.CodeInvalidValue, "is no range: want the form of [2026-01-01, 2026-02-01), " +
		"UNBOUNDED for an open end"}
	problemRangeObject = &problem{contract.CodeInvalidValue,
		`is no range: want an object with "start" and "end" and nothing else`}
	problemRangeOrder = &problem{contract.CodeInvalidValue, "ends before or where it starts"}
)

// appendRangeText appends a RANGE that is written [start, end).
func (c *column) appendRangeText(row, text []byte, now int64) ([]byte, *problem) {
	if len(text) < 2 || text[0] != '[' || text[len(text)-1] != ')' {
		return row, problemRangeText
	}
	start, end, ok := bytes.Cut(text[1:len(text)-1], []byte(","))
	if !ok {
		return row, problemRangeText
	}
	start, end = bytes.TrimSpace(start), bytes.TrimSpace(end)
	return c.appendRange(row, bounded(start), bounded(end), now)
}

// bounded is the end of a range as text, nil if there is none.
func bounded(text []byte) []byte {
	if strings.EqualFold(string(text), "UNBOUNDED") || strings.EqualFold(string(text), "NULL") {
		return nil
	}
	return text
}

// appendRangeObject appends a RANGE that is written {"start": …, "end": …}; null, or no such
// member, is an open end.
func (c *column) appendRangeObject(row, raw []byte, now int64) ([]byte, *problem) {
	var ends [2][]byte
	for w := walk(raw, 0); w.member(); {
		i := 0
		switch string(raw[w.name.from:w.name.to]) {
		case `"start"`:
		case `"end"`:
			i = 1
		default:
			return row, problemRangeObject
		}
		switch value := raw[w.value.from:w.value.to]; value[0] {
		case 'n':
		case '"':
			if ends[i] = value[1 : len(value)-1]; bytes.IndexByte(ends[i], '\\') >= 0 {
				ends[i] = appendUnescaped(nil, ends[i])
			}
		default:
			return row, &problem{contract.CodeWrongType, "has an end that is " + kindWord(value[0]) +
				", not a string: send " +
				"the right type, values are not converted"}
		}
	}
	return c.appendRange(row, ends[0], ends[1], now)
}

// appendRange appends a RANGE: nil is an open end.
func (c *column) appendRange(row, start, end []byte, now int64) ([]byte, *problem) {
	message := make([]byte, 0, 32)
	var instants [2]int64
	for i, text := range [2][]byte{start, end} {
		if text == nil {
			continue
		}
		var p *problem
		if instants[i], p = c.element.instant(text); p == nil {
			e := *c.element
			e.tag = protowire.EncodeTag(protowire.Number(i+1), protowire.VarintType)
			message, p = e.appendText(message, text, now)
		}
		if p != nil {
			return row, &problem{p.code, "has an end that " + p.what}
		}
	}
	if start != nil && end != nil && instants[0] >= instants[1] {
		return row, problemRangeOrder
	}
	row = protowire.AppendVarint(row, c.tag)
	return protowire.AppendBytes(row, message), nil
}

// instant is a time as a number that orders it among those of its type.
func (c *column) instant(text []byte) (int64, *problem) {
	if c.kind == kindTimestamp {
		t, err := ParseTimestamp(text)
		if err != nil {
			return 0, &problem{contract.CodeInvalidValue, "is no timestamp: " + err.Error()}
		}
		return t, nil
	}
	return c.parseCivil(text)
}
