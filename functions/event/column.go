package event

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/contract"
)

// column converts values to one column's bytes in a row. It has no state.
type column struct {
	// What most values need comes first, so that it shares a line of the cache.
	tag      uint64 // what stands before the value in the wire bytes
	accept   contract.Form
	kind     kind
	plain    bool // a STRING of which nothing is checked but, with notEmpty, that it is not empty
	rfc3339  bool // a TIMESTAMP in RFC 3339 and no other form
	clocked  bool // a TIMESTAMP in RFC 3339 and perhaps other forms
	short    bool // a NUMERIC that is nothing but that
	lanes    bool // a STRING that is the event's type
	special  bool // a FLOAT64 of events that are no JSON, and can have what JSON has no number for
	notEmpty bool

	contract.Column
	allowed              []string
	allowedCode          contract.Code
	minLength, maxLength int // characters, bytes
	layouts              []contract.Layout
	oldest, newest       int64 // microseconds before and after the ingestion; 0: no bound
	min, max             *bound
	element              *column // of a RANGE
}

// bound is one end of the range of a column's values; the member that fits the column's
// type is set. All are inclusive.
type bound struct {
	decimal decimal
	float   float64
	micros  int64 // of times; days of DATE times 86,400,000,000
	text    string
}

// kind is a contract.Type, as a number.
type kind uint8

const (
	kindString kind = iota
	kindInt64
	kindFloat64
	kindBool
	kindTimestamp
	kindJSON
	kindBytes
	kindNumeric
	kindBigNumeric
	kindDate
	kindTime
	kindDateTime
	kindGeography
	kindInterval
	kindRange
	kindRecord
)

// kinds has the number of each type and the form that it takes if a contract opens no other.
var kinds = map[contract.Type]struct {
	kind kind
	form contract.Form
}{
	contract.String:     {kindString, contract.FormString},
	contract.Int64:      {kindInt64, contract.FormNumber},
	contract.Float64:    {kindFloat64, contract.FormNumber},
	contract.Bool:       {kindBool, contract.FormBoolean},
	contract.Timestamp:  {kindTimestamp, contract.FormRFC3339},
	contract.JSON:       {kindJSON, 0},
	contract.Bytes:      {kindBytes, contract.FormBase64},
	contract.Numeric:    {kindNumeric, contract.FormNumber},
	contract.BigNumeric: {kindBigNumeric, contract.FormNumber},
	contract.Date:       {kindDate, contract.FormISO},
	contract.Time:       {kindTime, contract.FormISO},
	contract.DateTime:   {kindDateTime, contract.FormISO},
	contract.Geography:  {kindGeography, contract.FormWKT},
	contract.Interval:   {kindInterval, contract.FormISO},
	contract.RangeOf:    {kindRange, contract.FormObject},
	contract.Record:     {kindRecord, contract.FormObject},
}

// valueForms are the forms that say how a value may be written, not what an array or null means.
const valueForms = ^(contract.FormSingle | contract.FormSkipNull | contract.FormRound |
	contract.FormJSONText | contract.FormEmptyArray | contract.FormEntries)

// newColumn compiles the field f of the contract, which fills c.
func newColumn(of *contract.Contract, c *contract.Column, f *contract.Field) (column, error) {
	k, ok := kinds[c.Type]
	if !ok {
		return column{}, fmt.Errorf("type %q is not known", c.Type)
	}
	out := column{
		Column: *c, tag: protowire.EncodeTag(c.Number, c.WireType()), kind: k.kind,
		accept: f.Accept, notEmpty: f.NotEmpty, allowed: f.Allowed, allowedCode: contract.CodeNotAllowed,
		minLength: f.MinLength, maxLength: f.MaxLength, layouts: f.Layouts,
	}
	if out.accept&valueForms == 0 {
		out.accept |= k.form
	}
	if c.Repeated { // the bounds of the array: field.minElements
		out.minLength, out.maxLength = 0, 0
	}
	if c.MaxLength > 0 && (out.maxLength == 0 || c.MaxLength < out.maxLength) {
		out.maxLength = c.MaxLength
	}
	if of.EventType != "" && c.Name == of.EventType {
		out.allowedCode = contract.CodeInvalidEventType
		out.lanes = out.kind == kindString && len(f.Allowed) > 0 && !f.NotEmpty && out.minLength == 0 &&
			out.maxLength == 0 && !c.Repeated
	}
	if r := f.Range; r != nil {
		out.oldest, out.newest = r.Oldest.Microseconds(), r.Newest.Microseconds()
		var err error
		if out.min, err = out.bound(r.Min); err != nil {
			return out, err
		}
		if out.max, err = out.bound(r.Max); err != nil {
			return out, err
		}
		if out.min != nil && out.max != nil && out.compare(out.min, out.max) > 0 {
			return out, fmt.Errorf("its range begins at %s and ends before that, at %s: turn them round", out.min.text,
				out.max.text)
		}
	}
	if out.kind == kindRange {
		e, err := newColumn(of, &contract.Column{Name: c.Name, Type: c.Element, Number: 1}, &contract.Field{})
		if err != nil {
			return out, err
		}
		out.element = &e
	}
	out.plain = out.kind == kindString && len(out.allowed) == 0 && out.minLength == 0 && out.maxLength == 0 &&
		out.accept&contract.FormString != 0
	out.special = out.kind == kindFloat64 && of.Format.Binary()
	out.clocked = out.kind == kindTimestamp && out.accept&(contract.FormRFC3339|contract.FormISO8601) != 0
	out.short = out.kind == kindNumeric && c.Precision == 0 && out.min == nil && out.max == nil
	out.rfc3339 = out.kind == kindTimestamp && out.accept&valueForms == contract.FormRFC3339
	return out, nil
}

// problem is why a value cannot be stored; what completes the sentence that begins with
// the field's name.
type problem struct {
	code contract.Code
	what string
}

// The problems that many values have.
var (
	problemEmpty    = &problem{contract.CodeEmptyField, "is empty: send its value"}
	problemBlank    = &problem{contract.CodeEmptyField, "has nothing but white space: send its value"}
	problemFraction = &problem{contract.CodeWrongType, "has a fraction or an exponent: send an integer"}
	problemInt64    = &problem{contract.CodeOutOfRange, "does not fit into 64 bits"}
	problemFloat64  = &problem{contract.CodeOutOfRange, "does not fit into a 64-bit floating point number"}
	problemNumber   = &problem{contract.CodeInvalidValue, "is no number: send digits as JSON writes a number"}
	problemBool     = &problem{contract.CodeInvalidValue, `is neither "true" nor "false": send one of them`}
	problemBase64   = &problem{contract.CodeInvalidBase64,
		"is not in standard base64 with padding: encode its bytes so"}
	problemURL = &problem{contract.CodeInvalidBase64, "is not in base64 for URLs: encode its bytes so"}
	problemHex = &problem{contract.CodeInvalidBase64,
		"is not in hexadecimal digits, two a byte: encode its bytes so"}
	problemYears = &problem{contract.CodeTimestampOutOfRange, "is outside the years 1 to 9999"}
	problemUTF8  = &problem{contract.CodeInvalidUTF8,
		"is not valid UTF-8: encode it as UTF-8, or make its column BYTES"}
)

// wrongType is the problem of a value of the JSON kind that begins with the byte first.
func (c *column) wrongType(first byte) *problem {
	want := "a string"
	switch c.kind {
	case kindInt64, kindFloat64, kindNumeric, kindBigNumeric:
		want = "a number"
	case kindBool:
		want = "true or false"
	case kindTimestamp:
		want = "a string with a timestamp"
	case kindDate, kindTime, kindDateTime:
		want = "a string with a " + strings.ToLower(string(c.Type))
	case kindBytes:
		want = "a string in base64"
	case kindRecord, kindRange:
		want = "an object"
	case kindGeography:
		want = "a string with well-known text"
	case kindInterval:
		want = "a string with an interval"
	}
	return &problem{contract.CodeWrongType, "is " + kindWord(first) + ", not " + want + rightType}
}

// rightType ends what is said of a value of the wrong type for its column.
const rightType = ": send the right type, values are not converted unless the column's accept says so"

// kindWord names the JSON kind of a value that begins with the byte first.
func kindWord(first byte) string {
	switch first {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}

// appendString appends the column whose value is a JSON string that means text. now is the
// time of ingestion, in microseconds since the Unix epoch.
func (c *column) appendString(row, text []byte, now int64) ([]byte, *problem) {
	switch c.kind {
	case kindString, kindInt64, kindFloat64, kindNumeric, kindBigNumeric, kindBool:
		if c.special {
			if row, p, ok := c.appendSpecial(row, text); ok {
				return row, p
			}
		}
		if c.accept&contract.FormString == 0 {
			return row, c.wrongType('"')
		}
	case kindJSON, kindRecord:
		return row, c.wrongType('"')
	case kindRange:
		if c.accept&contract.FormSQL == 0 {
			return row, c.wrongType('"')
		}
	}
	return c.appendText(row, text, now)
}

// appendText is appendString for text that is no JSON, such as a header: it has no other
// form than this one.
func (c *column) appendText(row, text []byte, now int64) ([]byte, *problem) {
	switch c.kind {
	case kindString:
		return c.appendChars(row, text)
	case kindInt64, kindFloat64, kindNumeric, kindBigNumeric:
		if end, _ := scanNumber(text, 0); end != len(text) || end <= 0 {
			return row, problemNumber
		}
		return c.appendDigits(row, text)
	case kindBool:
		switch string(text) {
		case "true":
			return c.appendBoolean(row, true), nil
		case "false":
			return c.appendBoolean(row, false), nil
		}
		return row, problemBool
	case kindTimestamp:
		return c.appendTimestamp(row, text, now)
	case kindBytes:
		return c.appendBytes(row, text)
	case kindDate, kindTime, kindDateTime:
		return c.appendCivil(row, text, now)
	case kindGeography:
		return c.appendGeography(row, text)
	case kindInterval:
		return c.appendInterval(row, text)
	case kindRange:
		return c.appendRangeText(row, text, now)
	}
	return row, c.wrongType('"')
}

// appendNumber appends the column whose value is a JSON number.
func (c *column) appendNumber(row, raw []byte, now int64) ([]byte, *problem) {
	switch c.kind {
	case kindInt64, kindFloat64, kindNumeric, kindBigNumeric:
		if c.accept&contract.FormNumber != 0 {
			return c.appendDigits(row, raw)
		}
	case kindString:
		if c.accept&contract.FormNumber != 0 {
			return c.appendChars(row, raw)
		}
	case kindBool:
		if c.accept&contract.FormNumber != 0 {
			if len(raw) == 1 && raw[0]|1 == '1' {
				return c.appendBoolean(row, raw[0] == '1'), nil
			}
			return row, &problem{contract.CodeInvalidValue, "is neither 0 nor 1: send one of them"}
		}
	case kindTimestamp, kindDate:
		if c.accept&epochForms != 0 {
			return c.appendEpoch(row, raw, now)
		}
	}
	return row, c.wrongType('0')
}

// appendBool appends the column whose value is true or false.
func (c *column) appendBool(row []byte, v bool) ([]byte, *problem) {
	switch {
	case c.kind == kindBool && c.accept&contract.FormBoolean != 0:
		return c.appendBoolean(row, v), nil
	case c.kind == kindString && c.accept&contract.FormBoolean != 0:
		return c.appendChars(row, strconv.AppendBool(nil, v))
	}
	return row, c.wrongType('t')
}

// appendObject appends the column whose value is an object or an array.
func (c *column) appendObject(row, raw []byte, now int64) ([]byte, *problem) {
	switch {
	case c.kind == kindRange && raw[0] == '{' && c.accept&contract.FormObject != 0:
		return c.appendRangeObject(row, raw, now)
	case c.kind == kindGeography && raw[0] == '{' && c.accept&contract.FormGeoJSON != 0:
		return c.appendGeography(row, raw)
	}
	return row, c.wrongType(raw[0])
}

// appendJSON appends a JSON column whose value is raw.
func (c *column) appendJSON(row, raw []byte) []byte {
	row = protowire.AppendVarint(row, c.tag)
	return protowire.AppendBytes(row, raw)
}

func (c *column) appendBoolean(row []byte, v bool) []byte {
	row = protowire.AppendVarint(row, c.tag)
	return protowire.AppendVarint(row, protowire.EncodeBool(v))
}

// blank reports whether a text has nothing but white space.
func blank(s []byte) bool { return len(bytes.TrimSpace(s)) == 0 }

// appendChars appends a STRING.
func (c *column) appendChars(row, s []byte) ([]byte, *problem) {
	if c.notEmpty && blank(s) {
		if len(s) == 0 {
			return row, problemEmpty
		}
		return row, problemBlank
	}
	if len(c.allowed) > 0 && c.allowedIndex(s) < 0 {
		return row, &problem{c.allowedCode, "is none of " + strings.Join(c.allowed, ", ")}
	}
	if c.minLength > 0 || c.maxLength > 0 {
		if p := c.length(utf8.RuneCount(s), "characters"); p != nil {
			return row, p
		}
	}
	row = protowire.AppendVarint(row, c.tag)
	return protowire.AppendBytes(row, s), nil
}

// length is the problem of a value of n units, if it has one.
func (c *column) length(n int, unit string) *problem {
	return lengthProblem(n, c.minLength, c.maxLength, unit)
}

func lengthProblem(n, least, most int, unit string) *problem {
	switch {
	case n < least:
		return &problem{contract.CodeInvalidLength, fmt.Sprintf("has %d %s: send at least %d", n, unit, least)}
	case most > 0 && n > most:
		return &problem{contract.CodeInvalidLength, fmt.Sprintf("has %d %s: send at most %d", n, unit, most)}
	}
	return nil
}

func (c *column) allowedIndex(s []byte) int {
	for i, t := range c.allowed {
		if string(s) == t {
			return i
		}
	}
	return -1
}

// appendDigits appends a column of numbers; raw is a number as JSON writes it.
func (c *column) appendDigits(row, raw []byte) ([]byte, *problem) {
	switch c.kind {
	case kindInt64:
		for _, b := range raw {
			if b == '.' || b|0x20 == 'e' {
				return row, problemFraction // however large the number
			}
		}
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil {
			return row, problemInt64
		}
		if c.min != nil || c.max != nil {
			if p := c.within(compareDecimal, &bound{decimal: decimalOf(n)}); p != nil {
				return row, p
			}
		}
		row = protowire.AppendVarint(row, c.tag)
		return protowire.AppendVarint(row, uint64(n)), nil
	case kindFloat64:
		n, err := strconv.ParseFloat(string(raw), 64)
		if err != nil {
			return row, problemFloat64
		}
		if c.min != nil || c.max != nil {
			if p := c.within(compareFloat, &bound{float: n}); p != nil {
				return row, p
			}
		}
		row = protowire.AppendVarint(row, c.tag)
		return protowire.AppendFixed64(row, math.Float64bits(n)), nil
	default:
		return c.appendDecimal(row, raw)
	}
}

// compare tells which of two bounds of the column's type is the greater.
func (c *column) compare(a, b *bound) int {
	switch c.kind {
	case kindInt64, kindNumeric, kindBigNumeric:
		return compareDecimal(a, b)
	case kindFloat64:
		return compareFloat(a, b)
	}
	return compareTime(a, b)
}

func compareDecimal(a, b *bound) int { return a.decimal.compare(&b.decimal) }

func compareFloat(a, b *bound) int {
	switch {
	case a.float < b.float:
		return -1
	case a.float > b.float:
		return 1
	}
	return 0
}

func compareTime(a, b *bound) int {
	switch {
	case a.micros < b.micros:
		return -1
	case a.micros > b.micros:
		return 1
	}
	return 0
}

// within is the problem of a value outside the column's range.
func (c *column) within(compare func(a, b *bound) int, v *bound) *problem {
	code := contract.CodeOutOfRange
	if c.kind == kindTimestamp {
		code = contract.CodeTimestampOutOfRange
	}
	switch {
	case c.min != nil && compare(v, c.min) < 0:
		return &problem{code, "is below " + c.min.text + ", the least that the contract takes"}
	case c.max != nil && compare(v, c.max) > 0:
		return &problem{code, "is above " + c.max.text + ", the most that the contract takes"}
	}
	return nil
}

// boundWant says how the bound of a range is written.
func boundWant(k kind) string {
	switch k {
	case kindTimestamp:
		return "write it as 2026-01-31T23:59:59Z"
	case kindDate:
		return "write it as 2026-01-31"
	case kindTime:
		return "write it as 23:59:59"
	case kindDateTime:
		return "write it as 2026-01-31T23:59:59"
	}
	return "write it as JSON writes a number"
}

// bound reads one end of a range.
func (c *column) bound(text *string) (*bound, error) {
	if text == nil {
		return nil, nil
	}
	b := &bound{text: *text}
	raw := []byte(*text)
	ok := true
	switch c.kind {
	case kindInt64, kindNumeric, kindBigNumeric:
		end, _ := scanNumber(raw, 0)
		if ok = end == len(raw) && end > 0; ok {
			var p *problem
			b.decimal, p = parseDecimal(raw, bigScale, false)
			ok = p == nil
		}
		if c.kind == kindNumeric && ok {
			b.decimal, ok = b.decimal.rescale(bigScale - numericScale)
		}
		if c.kind == kindInt64 && ok {
			b.decimal, ok = b.decimal.rescale(bigScale)
		}
	case kindFloat64:
		var err error
		b.float, err = strconv.ParseFloat(*text, 64)
		ok = err == nil && !math.IsNaN(b.float) && !math.IsInf(b.float, 0)
	case kindTimestamp:
		var err error
		b.micros, err = ParseTimestamp(raw)
		ok = err == nil
	case kindDate, kindTime, kindDateTime:
		var p *problem
		b.micros, p = c.parseCivil(raw)
		ok = p == nil
	default:
		ok = false
	}
	if !ok {
		return nil, fmt.Errorf("its range has the bound %q, which is no %s: %s", *text, c.Type, boundWant(c.kind))
	}
	return b, nil
}

var (
	strictBase64 = base64.StdEncoding.Strict()
	strictURL    = base64.RawURLEncoding.Strict()
)

// appendBytes decodes strictly: no line breaks, which the library's decoders pass over.
func (c *column) appendBytes(row, s []byte) ([]byte, *problem) {
	n, wrong := 0, problemBase64
	switch {
	case c.accept&contract.FormHex != 0:
		n, wrong = len(s)/2, problemHex
		if len(s)%2 != 0 {
			return row, wrong
		}
	case c.accept&contract.FormBase64URL != 0:
		wrong = problemURL
		s = bytes.TrimRight(s, "=")
		n = strictURL.DecodedLen(len(s))
	default:
		if len(s)%4 != 0 {
			return row, wrong
		}
		n = len(s) / 4 * 3
		switch {
		case bytes.HasSuffix(s, []byte("==")):
			n -= 2
		case bytes.HasSuffix(s, []byte("=")):
			n--
		}
	}
	if bytes.ContainsAny(s, "\r\n") {
		return row, wrong
	}
	if c.notEmpty && n == 0 {
		return row, problemEmpty
	}
	if c.minLength > 0 || c.maxLength > 0 {
		if p := c.length(n, "bytes"); p != nil {
			return row, p
		}
	}
	before := row
	row = protowire.AppendVarint(row, c.tag)
	row = protowire.AppendVarint(row, uint64(n))
	var err error
	switch wrong {
	case problemHex:
		row, err = hex.AppendDecode(row, s)
	case problemURL:
		row, err = strictURL.AppendDecode(row, s)
	default:
		row, err = strictBase64.AppendDecode(row, s)
	}
	if err != nil {
		return before, wrong
	}
	return row, nil
}

// appendRaw appends a STRING or BYTES whose value comes as bytes: a key or a header.
func (c *column) appendRaw(row, s []byte, now int64) ([]byte, *problem) {
	if c.kind == kindBytes {
		if c.notEmpty && len(s) == 0 {
			return row, problemEmpty
		}
		if p := c.length(len(s), "bytes"); p != nil {
			return row, p
		}
		row = protowire.AppendVarint(row, c.tag)
		return protowire.AppendBytes(row, s), nil
	}
	if !utf8.Valid(s) {
		return row, problemUTF8
	}
	if c.kind == kindJSON {
		return row, c.wrongType('"')
	}
	return c.appendText(row, s, now)
}

// appendTimestamp appends a TIMESTAMP in any of the forms that a string may have.
func (c *column) appendTimestamp(row, s []byte, now int64) ([]byte, *problem) {
	if c.accept&epochForms != 0 {
		if end, _ := scanNumber(s, 0); end == len(s) && end > 0 {
			return c.appendEpoch(row, s, now)
		}
	}
	t, err := int64(0), errTimestampForm
	if c.accept&(contract.FormRFC3339|contract.FormISO8601) != 0 {
		t, err = ParseTimestamp(s)
		if err != nil && c.accept&contract.FormISO8601 != 0 {
			var room [64]byte
			if wide, ok := widenOffset(room[:0], s); ok {
				t, err = ParseTimestamp(wide)
			}
		}
	} else if c.accept&contract.FormPattern == 0 {
		return row, c.wrongType('"')
	}
	if err != nil && c.accept&contract.FormPattern != 0 {
		var at time.Time
		if at, err = c.parsePatterns(s); err == nil {
			t = at.UnixMicro()
			if y := at.UTC().Year(); y < 1 || y > 9999 {
				return row, problemYears
			}
		}
	}
	return c.appendTime(row, t, err, now)
}

// widenOffset appends s with an offset that is written +hhmm or +hh as +hh:mm.
func widenOffset(dst, s []byte) ([]byte, bool) {
	n := len(s)
	switch {
	case n > 5 && n < 50 && (s[n-5] == '+' || s[n-5] == '-'):
		return append(append(append(dst, s[:n-2]...), ':'), s[n-2:]...), true
	case n > 19 && n < 50 && (s[n-3] == '+' || s[n-3] == '-'):
		return append(append(dst, s...), ":00"...), true
	}
	return nil, false
}

var errPattern = errors.New("want a time in the form that the contract gives")

func (c *column) parsePatterns(s []byte) (time.Time, error) {
	for _, layout := range c.layouts {
		if at, err := time.Parse(layout.Go, string(s)); err == nil {
			return at, nil
		}
	}
	return time.Time{}, errPattern
}

// appendTime appends a TIMESTAMP of t microseconds, or none because of err.
func (c *column) appendTime(row []byte, t int64, err error, now int64) ([]byte, *problem) {
	if err != nil {
		return row, &problem{contract.CodeInvalidTimestamp, "is no timestamp: " + err.Error()}
	}
	if t < minTimestamp || t > maxTimestamp {
		return row, problemYears
	}
	if p := c.window(t, now); p != nil {
		return row, p
	}
	row = protowire.AppendVarint(row, c.tag)
	return appendMicros(row, t), nil
}

// window is the problem of a time outside the column's range.
func (c *column) window(t, now int64) *problem {
	switch {
	case c.oldest != 0 && t < now-c.oldest:
		return &problem{contract.CodeTimestampOutOfRange,
			"is too long ago: the table takes events from the " + days(c.oldest) + " before now"}
	case c.newest != 0 && t > now+c.newest:
		return &problem{contract.CodeTimestampOutOfRange,
			"is too far ahead: the table takes events until " + days(c.newest) + " from now"}
	case c.min != nil || c.max != nil:
		return c.within(compareTime, &bound{micros: t})
	}
	return nil
}

func days(microseconds int64) string {
	const day = 24 * 60 * 60 * 1_000_000
	if microseconds%day == 0 {
		return fmt.Sprintf("%d days", microseconds/day)
	}
	return fmt.Sprintf("%d seconds", microseconds/1_000_000)
}

const epochForms = contract.FormEpochDays | contract.FormEpochSeconds | contract.FormEpochMillis | contract.FormEpochMicros

// appendEpoch appends a TIMESTAMP or DATE that is written as a number since 1970.
func (c *column) appendEpoch(row, raw []byte, now int64) ([]byte, *problem) {
	scale := 0
	switch {
	case c.accept&contract.FormEpochSeconds != 0:
		scale = 6
	case c.accept&contract.FormEpochMillis != 0:
		scale = 3
	}
	t, exact, ok := parseScaled(raw, scale)
	if c.kind == kindDate {
		switch {
		case !exact:
			return row, problemFraction
		case !ok || t < minDate || t > maxDate:
			return row, &problem{contract.CodeOutOfRange, "is outside the years 1 to 9999"}
		}
		if p := c.window(t*microsPerDay, now); p != nil {
			return row, p
		}
		row = protowire.AppendVarint(row, c.tag)
		return protowire.AppendVarint(row, uint64(t)), nil
	}
	if !ok {
		return row, problemYears
	}
	return c.appendTime(row, t, nil, now)
}

// appendMicros appends a time in microseconds as a varint. Those between 1987 and
// 4253 have eight bytes of seven bits, which are spread without a loop.
func appendMicros(row []byte, t int64) []byte {
	if t < 1<<49 || t >= 1<<56 {
		return protowire.AppendVarint(row, uint64(t))
	}
	v := uint64(t)
	v = v&0x000000000fffffff | v&0x00fffffff0000000<<4
	v = v&0x00003fff00003fff | v&0x0fffc0000fffc000<<2
	v = v&0x007f007f007f007f | v&0x3f803f803f803f80<<1
	return binary.LittleEndian.AppendUint64(row, v|0x0080808080808080)
}

// The days since 1970-01-01 of the years 1 to 9999.
const (
	minDate      = -719_162
	maxDate      = 2_932_896
	microsPerDay = 86_400_000_000
)

// appendCivil appends a DATE, TIME or DATETIME.
func (c *column) appendCivil(row, s []byte, now int64) ([]byte, *problem) {
	if c.kind == kindDate && c.accept&contract.FormEpochDays != 0 {
		if end, _ := scanNumber(s, 0); end == len(s) && end > 0 {
			return c.appendEpoch(row, s, now)
		}
	}
	if c.accept&(contract.FormISO|contract.FormPattern) == 0 {
		return row, c.wrongType('"')
	}
	t, p := c.parseCivil(s)
	if p != nil {
		return row, p
	}
	return c.appendCivilTime(row, t, now)
}

// appendCivilTime appends a DATE, TIME or DATETIME of which the microseconds are known.
func (c *column) appendCivilTime(row []byte, t, now int64) ([]byte, *problem) {
	if c.kind == kindTime {
		if p := c.within(compareTime, &bound{micros: t}); p != nil {
			return row, p
		}
	} else if p := c.window(t, now); p != nil {
		if p.code == contract.CodeTimestampOutOfRange {
			p = &problem{contract.CodeOutOfRange, p.what}
		}
		return row, p
	}
	row = protowire.AppendVarint(row, c.tag)
	return protowire.AppendVarint(row, c.civil(t)), nil
}

// civil is what stands in the wire bytes for the microseconds t: of the day for TIME, since
// 1970 for DATE and DATETIME. See
// https://cloud.google.com/bigquery/docs/supported-data-types.
func (c *column) civil(t int64) uint64 {
	switch c.kind {
	case kindDate:
		return uint64(t / microsPerDay) // exact
	case kindTime:
		return packTime(t)
	}
	at := time.UnixMicro(t).UTC()
	year, month, day := at.Date()
	date := uint64(year)<<9 | uint64(month)<<5 | uint64(day)
	ofDay := t % microsPerDay
	if ofDay < 0 {
		ofDay += microsPerDay
	}
	return date<<37 | packTime(ofDay)
}

// packTime packs microseconds of a day: hours, minutes, seconds, microseconds.
func packTime(t int64) uint64 {
	seconds := uint64(t / 1_000_000)
	return seconds/3600<<32 | seconds/60%60<<26 | seconds%60<<20 | uint64(t%1_000_000)
}

// parseCivil reads a DATE, TIME or DATETIME as microseconds; those of a TIME are of the day.
func (c *column) parseCivil(s []byte) (int64, *problem) {
	if c.accept&contract.FormPattern != 0 {
		if at, err := c.parsePatterns(s); err == nil {
			_, offset := at.Zone()
			t := at.UnixMicro() + int64(offset)*1_000_000 // what the clock on the wall shows
			if y := time.UnixMicro(t).UTC().Year(); y < 1 || y > 9999 {
				return 0, &problem{contract.CodeOutOfRange, "is outside the years 1 to 9999"}
			}
			day := t - ((t%microsPerDay)+microsPerDay)%microsPerDay
			switch c.kind {
			case kindDate:
				return day, nil
			case kindTime:
				return t - day, nil
			}
			return t, nil
		} else if c.accept&contract.FormISO == 0 {
			return 0, &problem{contract.CodeInvalidValue, "is no " + strings.ToLower(string(c.Type)) + ": " +
				err.Error()}
		}
	}
	var room [64]byte
	form, text := "", append(room[:0], s...)
	switch c.kind {
	case kindDate:
		form = "2026-01-31"
		if len(s) != len("yyyy-mm-dd") {
			text = nil
		}
		text = append(text, "T00:00:00"...)
	case kindTime:
		form = "23:59:59.123456"
		text = append(append(room[:0], "1970-01-01T"...), s...)
	default:
		form = "2026-01-31T23:59:59.123456"
	}
	wrong := &problem{contract.CodeInvalidValue, "is no " + strings.ToLower(string(c.Type)) + ": want the form of " +
		form}
	if n := len(text); n > 40 || n < 19 || text[n-1]-'0' > 9 || slices.Contains(text[19:], '+') ||
		slices.Contains(text[19:], '-') {
		return 0, wrong
	}
	t, err := ParseTimestamp(text)
	if err != nil {
		return 0, wrong
	}
	if c.kind != kindTime && (t < minTimestamp || t > maxTimestamp) {
		return 0, &problem{contract.CodeOutOfRange, "is outside the years 1 to 9999"}
	}
	return t, nil
}
