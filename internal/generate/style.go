package generate

import (
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// style is how one producer writes JSON.
type style struct {
	colon, comma string
	ascii        bool // other characters as \u escapes
	slash        bool // '/' as '\/'
	order        int  // which order the contract's fields come in
	layout       string
	zone         *time.Location
}

const (
	web    = iota // JSON.stringify: compact, milliseconds
	mobile        // compact, whole seconds, another order
	python        // json.dumps: spaces, ASCII only, microseconds
	php           // json_encode: '\/', ASCII only, an offset
)

var styles = [...]style{
	web:    {colon: ":", comma: ",", layout: "2006-01-02T15:04:05.000Z07:00", zone: time.UTC},
	mobile: {colon: ":", comma: ",", order: 1, layout: "2006-01-02T15:04:05Z07:00", zone: time.UTC},
	python: {colon: ": ", comma: ", ", ascii: true, order: 2, layout: "2006-01-02T15:04:05.000000-07:00", zone: time.UTC},
	php:    {colon: ":", comma: ",", ascii: true, slash: true, order: 2, layout: "2006-01-02T15:04:05-07:00", zone: time.FixedZone("", 3600)},
}

// object is a JSON object in the making: members are written one after the
// other into text and put together, in whatever order, at the end.
type object struct {
	style   *style
	text    []byte
	members []member
	depth   int  // inside nest or list: members go into text directly
	first   bool // no comma is due
}

// member is text[start:end], its name and colon included.
type member struct{ start, end int }

func (o *object) reset(s *style) {
	o.style, o.text, o.members, o.depth = s, o.text[:0], o.members[:0], 0
}

// appendTo appends the whole object.
func (o *object) appendTo(dst []byte) []byte {
	dst = append(dst, '{')
	for i, m := range o.members {
		if i > 0 {
			dst = append(dst, o.style.comma...)
		}
		dst = append(dst, o.text[m.start:m.end]...)
	}
	return append(dst, '}')
}

// raw adds the member name with the value that write appends.
func (o *object) raw(name string, write func([]byte) []byte) {
	start := len(o.text)
	if o.depth > 0 {
		o.separate()
	}
	o.text = o.style.quote(o.text, name)
	o.text = append(o.text, o.style.colon...)
	o.text = write(o.text)
	if o.depth == 0 {
		o.members = append(o.members, member{start, len(o.text)})
	}
}

// separate writes the comma between the members or items of a nested value.
func (o *object) separate() {
	if !o.first {
		o.text = append(o.text, o.style.comma...)
	}
	o.first = false
}

func (o *object) string(name, v string) {
	o.raw(name, func(b []byte) []byte { return o.style.quote(b, v) })
}

func (o *object) number(name, v string) {
	o.raw(name, func(b []byte) []byte { return append(b, v...) })
}

func (o *object) int(name string, v int64) { o.number(name, strconv.FormatInt(v, 10)) }
func (o *object) bool(name string, v bool) { o.number(name, strconv.FormatBool(v)) }
func (o *object) null(name string)         { o.number(name, "null") }

func (o *object) time(name string, t time.Time) {
	o.string(name, t.In(o.style.zone).Format(o.style.layout))
}

// nest adds the member name with the object that fill writes.
func (o *object) nest(name string, fill func()) { o.compound(name, '{', fill, '}') }

// list adds the member name with the array whose items fill writes.
func (o *object) list(name string, fill func()) { o.compound(name, '[', fill, ']') }

func (o *object) compound(name string, open byte, fill func(), end byte) {
	start := len(o.text)
	if o.depth > 0 {
		o.separate()
	}
	o.text = o.style.quote(o.text, name)
	o.text = append(o.text, o.style.colon...)
	o.text = append(o.text, open)
	o.depth++
	o.first = true
	fill()
	o.first = false
	o.depth--
	o.text = append(o.text, end)
	if o.depth == 0 {
		o.members = append(o.members, member{start, len(o.text)})
	}
}

// item adds a string to the list being written.
func (o *object) item(v string) {
	o.separate()
	o.text = o.style.quote(o.text, v)
}

// quote appends s as a JSON string in the producer's style.
func (s *style) quote(dst []byte, v string) []byte {
	dst = append(dst, '"')
	for _, r := range v {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '/' && s.slash:
			dst = append(dst, '\\', '/')
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\t':
			dst = append(dst, '\\', 't')
		case r < ' ' || r > '~' && s.ascii:
			if r > 0xffff {
				hi, lo := utf16.EncodeRune(r)
				dst = unicodeEscape(unicodeEscape(dst, hi), lo)
			} else {
				dst = unicodeEscape(dst, r)
			}
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}

func unicodeEscape(dst []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(dst, '\\', 'u', hex[r>>12&0xf], hex[r>>8&0xf], hex[r>>4&0xf], hex[r&0xf])
}
