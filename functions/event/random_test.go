package event

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"sluice/internal/batch"
	"sluice/internal/contract"
)

// random makes contracts and events of few names, so that they meet.
type random struct {
	*rand.Rand
	mild bool // makes contracts that refuse little, so that most of what is left over is seen
}

func (r *random) one(of ...string) string { return of[r.IntN(len(of))] }

func (r *random) oneIn(n int) bool { return r.IntN(n) == 0 }

func (r *random) name() string { return r.one("a", "b", "c", "d", "x.y", "é") }

func (r *random) path() contract.Path {
	p := contract.Path{{Name: r.name()}}
	for r.oneIn(2) && len(p) < 4 {
		switch r.IntN(8) {
		case 0:
			p = append(p, contract.Step{Kind: contract.Index, Index: r.IntN(3)})
		case 1:
			p = append(p, contract.Step{Kind: contract.Select, Name: r.name(), Value: r.one("a", "k", "é")})
		default:
			p = append(p, contract.Step{Name: r.name()})
		}
	}
	return p
}

var allTypes = []contract.Type{
	contract.String, contract.Bytes, contract.Int64, contract.Float64, contract.Numeric, contract.BigNumeric, contract.Bool,
	contract.Date, contract.Time, contract.DateTime, contract.Timestamp, contract.JSON, contract.Geography, contract.Interval,
	contract.RangeOf, contract.Record,
}

// columns makes the columns of an object and their fields. level 0 is the event.
func (r *random) columns(level int) (columns []contract.Column, fields []contract.Field) {
	for i := range 1 + r.IntN(6) {
		c := contract.Column{
			Name: fmt.Sprintf("f%d_%d", level, i), Number: protowire.Number(i +
				1), Type: allTypes[r.IntN(len(allTypes))],
		}
		if r.oneIn(3) { // what conditions and most contracts need
			c.Type = contract.String
		} else if level < 2 && r.oneIn(3) {
			c.Type = contract.Record
		}
		if r.mild && c.Type != contract.Record {
			c.Type = contract.JSON
		}
		f := contract.Field{Accept: r.accept(c.Type), SkipEmpty: r.oneIn(5)}
		for range 1 + r.IntN(4)/3 + r.IntN(6)/5 {
			f.Paths = append(f.Paths, r.path())
		}
		switch r.IntN(5) {
		case 0:
			c.Required = !r.mild
		case 1:
			c.Repeated = true
			f.Accept |= r.some(contract.FormSingle | contract.FormSkipNull)
			f.MinLength, f.MaxLength = r.IntN(4)/3, r.IntN(2)*3
		}
		switch c.Type {
		case contract.RangeOf:
			c.Element = []contract.Type{contract.Date, contract.DateTime, contract.Timestamp}[r.IntN(3)]
		case contract.Record:
			if level == 2 {
				c.Type = contract.JSON
				break
			}
			c.Columns, f.Fields = r.columns(level + 1)
			if f.Rest = contract.Rest(r.IntN(4) * r.IntN(2)); r.mild { // half inherit
				f.Rest %= contract.RestReject
			}
			if !c.Required && r.oneIn(2) {
				c.Repeated, f.MinLength, f.MaxLength = true, 0, 0
				f.Accept |= contract.FormSkipNull
			}
			f.Rest = r.restColumn(&c.Columns, &f.Fields, f.Rest)
			f.Accept |= r.some(contract.FormJSONText | contract.FormEmptyArray)
			if c.Repeated {
				f.Accept |= r.some(contract.FormEntries)
			}
		case contract.String, contract.Bytes:
			c.MaxLength = r.IntN(3) * 4
			f.NotEmpty = r.oneIn(4)
			if c.Type == contract.String && r.oneIn(4) {
				f.Allowed = []string{"a", "k", "true", "1"}
			}
		case contract.Int64, contract.Numeric, contract.BigNumeric, contract.Float64:
			if r.oneIn(3) {
				least := "-1"
				f.Range = &contract.Range{Min: &least}
			}
		case contract.Timestamp:
			if r.oneIn(3) {
				f.Range = &contract.Range{Oldest: 24 * time.Hour, Newest: time.Hour}
			}
		}
		if scalar := c.Type == contract.String || c.Type == contract.Int64; scalar && !c.Repeated {
			one := "1"
			switch {
			case level == 0 && r.oneIn(8):
				f = contract.Field{Source: contract.FromHeader, Header: "h", SkipEmpty: f.SkipEmpty}
			case level == 0 && r.oneIn(10):
				f = contract.Field{Source: contract.FromKafkaKey}
			case r.oneIn(12):
				f = contract.Field{Source: contract.FromConstant, Constant: &one}
				c.MaxLength = 0
			case r.oneIn(6) && len(f.Allowed) == 0 && f.Range == nil:
				f.Default = &one
			}
		}
		columns, fields = append(columns, c), append(fields, f)
	}
	return columns, fields
}

// restColumn appends a column for the rest, if there is to be one.
func (r *random) restColumn(columns *[]contract.Column, fields *[]contract.Field, rest contract.Rest) contract.Rest {
	if rest == contract.RestColumn {
		*columns = append(*columns, contract.Column{Name: "rest", Type: contract.JSON,
			Number: protowire.Number(len(*columns) + 1)})
		*fields = append(*fields, contract.Field{Source: contract.FromRest})
	}
	return rest
}

// some is a part of the forms.
func (r *random) some(forms contract.Form) contract.Form { return forms & contract.Form(r.Uint32()) }

func (r *random) accept(t contract.Type) contract.Form {
	if r.oneIn(2) {
		return 0
	}
	switch t {
	case contract.String:
		return contract.FormString | r.some(contract.FormNumber|contract.FormBoolean)
	case contract.Int64, contract.Float64:
		return contract.FormNumber | r.some(contract.FormString)
	case contract.Numeric, contract.BigNumeric:
		return contract.FormNumber | r.some(contract.FormString|contract.FormRound)
	case contract.Bool:
		return contract.FormBoolean | r.some(contract.FormString|contract.FormNumber)
	case contract.Bytes:
		return []contract.Form{contract.FormBase64, contract.FormBase64URL, contract.FormHex}[r.IntN(3)]
	case contract.Timestamp:
		return []contract.Form{contract.FormRFC3339, contract.FormISO8601}[r.IntN(2)] |
			[]contract.Form{0, contract.FormEpochSeconds, contract.FormEpochMillis, contract.FormEpochMicros}[r.IntN(4)]
	case contract.Date:
		return contract.FormISO | r.some(contract.FormEpochDays)
	case contract.Geography:
		return contract.FormWKT | r.some(contract.FormGeoJSON)
	case contract.Interval:
		return contract.FormISO | r.some(contract.FormSQL)
	case contract.RangeOf:
		return contract.FormObject | r.some(contract.FormSQL)
	case contract.JSON:
		return r.some(contract.FormJSONText)
	}
	return 0
}

func (r *random) contract() *contract.Contract {
	c := &contract.Contract{Name: "random", MaxBytes: 4096, MaxDepth: 6, Bare: true}
	columns, fields := r.columns(0)
	c.Rest = contract.RestColumn
	if !r.mild {
		c.Rest += contract.Rest(r.IntN(3))
	}
	r.restColumn(&columns, &fields, c.Rest)
	if r.oneIn(4) {
		path := contract.Path{{Name: r.name()}}
		if r.oneIn(2) {
			path = append(path, contract.Step{Name: r.name()})
		}
		c.Sections = []contract.Section{{Column: len(columns), Path: path}}
		columns = append(columns, contract.Column{Name: "section", Type: contract.JSON,
			Number: protowire.Number(len(columns) + 1)})
		fields = append(fields, contract.Field{Source: contract.FromSection})
	}
	for _, source := range []contract.Source{contract.FromIngestionTime, contract.FromKafkaTopic,
		contract.FromKafkaOffset} {
		typ := []contract.Type{contract.Timestamp, contract.String, contract.Int64}
		columns = append(columns, contract.Column{
			Name: fmt.Sprintf("system_%d", source), Type: typ[map[contract.Source]int{contract.FromKafkaTopic: 1,
				contract.FromKafkaOffset: 2}[source]],
			Number: protowire.Number(len(columns) + 1),
		})
		fields = append(fields, contract.Field{Source: source})
	}
	var comparable []int
	for i := range fields {
		if (columns[i].Type == contract.String || columns[i].Type == contract.Int64 ||
			columns[i].Type == contract.Bool) &&
			!columns[i].Repeated && fields[i].Source <= contract.FromKafkaKey {
			comparable = append(comparable, i)
		}
	}
	if len(comparable) > 0 {
		pick := func() int { return comparable[r.IntN(len(comparable))] }
		if r.oneIn(5) {
			c.Drop = []contract.Condition{{Column: pick(), Values: []string{"k", "true"}}}
		}
		if r.oneIn(8) {
			c.Sample = &contract.Sample{Column: pick(), Keep: 0.5}
		}
		for i := range fields {
			if r.oneIn(6) && fields[i].Source <= contract.FromKafkaKey {
				fields[i].RequiredWhen = []contract.Condition{{Column: pick(), Values: []string{"a", "1"}}}
			}
		}
	}
	c.Table, c.Fields = &contract.Table{Name: "random", Columns: columns}, fields
	return c
}

func (r *random) space(b *bytes.Buffer) {
	if r.oneIn(12) {
		b.WriteString(r.one(" ", "\n", "  \t"))
	}
}

func (r *random) object(b *bytes.Buffer, depth int) {
	b.WriteByte('{')
	used := map[string]bool{}
	for i, n := 0, r.IntN(6); i < n; i++ {
		name := r.one("a", "b", "c", "d", "x.y", "é", "u", "v")
		if used[name] && !r.oneIn(60) {
			continue
		}
		if len(used) > 0 {
			b.WriteByte(',')
		}
		used[name] = true
		r.space(b)
		switch {
		case r.oneIn(20) && name[0] < 0x80:
			fmt.Fprintf(b, `"\u%04x%s"`, name[0], name[1:])
		default:
			fmt.Fprintf(b, `"%s"`, name)
		}
		r.space(b)
		b.WriteByte(':')
		r.space(b)
		r.value(b, depth)
		r.space(b)
	}
	r.space(b)
	b.WriteByte('}')
}

func (r *random) value(b *bytes.Buffer, depth int) {
	kind := r.IntN(10)
	if depth <= 0 && kind < 5 {
		kind += 5
	}
	switch kind {
	case 0, 1, 2:
		r.object(b, depth-1)
	case 3, 4:
		b.WriteByte('[')
		objects := r.oneIn(2)
		r.space(b)
		for i := range r.IntN(4) {
			if i > 0 {
				b.WriteByte(',')
				r.space(b)
			}
			if objects && r.oneIn(6) {
				b.WriteString("null")
			} else if objects {
				r.object(b, depth-1)
			} else {
				r.value(b, depth-1)
			}
			r.space(b)
		}
		b.WriteByte(']')
	case 5:
		if r.oneIn(3) && depth > -1 { // JSON as text
			var inner bytes.Buffer
			r.value(&inner, depth-1)
			b.WriteString(strconv.Quote(inner.String()))
			return
		}
		b.WriteString(r.one(`""`, `" "`, `"a"`, `"k"`, `"é"`, `"true"`, `"1"`, `"-2.50"`, `"AAAA"`, `"ff"`,
			`"long enough to be too long"`, `"\u006b"`))
	case 6:
		b.WriteString(r.one(`0`, `1`, `-7`, `1.5`, `1e3`, `1e400`, `12345678901234567890`, `0.12345678901`,
			`1770091506789`))
	case 7:
		b.WriteString(r.one(`null`, `true`, `false`, `null`))
	case 8:
		b.WriteString(r.one(`"2026-02-03T04:05:06Z"`, `"2026-02-03"`, `"04:05:06.5"`, `"2026-02-03T04:05:06"`,
			`"P1Y2M"`, `"1-2 3 4:5:6"`,
			`"POINT(1 2)"`, `"[2026-01-01, 2026-02-01)"`, `"POINT(200 2)"`, `"2026-02-03T04:05:06+0100"`))
	default:
		b.WriteString(r.one(`{"start":"2026-01-01","end":null}`, `{"type":"Point","coordinates":[1,2]}`, `[]`, `{}`,
			`"k"`, `"a"`, `1`))
	}
}

// event makes a text that is nearly always an event.
func (r *random) event() []byte {
	var b bytes.Buffer
	r.space(&b)
	r.object(&b, 3)
	r.space(&b)
	v := b.Bytes()
	if r.oneIn(10) {
		i := r.IntN(len(v))
		if r.oneIn(2) {
			v = append(v[:i:i], v[i+1:]...)
		} else {
			v[i] = byte(r.Uint32())
		}
	}
	return v
}

var contracts = flag.Int("contracts", 400, "how many contracts TestDecodersAgreeOnContracts makes; of each it compares 200 events")

// Protects the claim that both decoders are one language: whatever contract and whatever
// event, they agree on the row, the verdict, the field and the sentence. For a long run:
//
//	go test ./functions/event -run OnContracts -contracts 50000 -timeout 0
func TestDecodersAgreeOnContracts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	accepted, codes := 0, map[contract.Code]int{}
	for i := range *contracts {
		r := &random{Rand: rand.New(rand.NewPCG(seed, uint64(i)))}
		compareContract(t, r, fmt.Sprintf("seed %d, contract %d", seed, i), &accepted, codes)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d inputs, %d accepted, %v, seed %d", *contracts*200, accepted, codes, seed)
	for _, code := range []contract.Code{
		contract.CodeMissingField, contract.CodeWrongType, contract.CodeUnknownMember, contract.CodeInvalidLength, contract.CodeNotAllowed,
		contract.CodeOutOfRange, contract.CodeInvalidValue, contract.CodeDuplicateName, contract.CodeTooDeep, "left out",
	} {
		if codes[code] == 0 {
			t.Errorf("no event of %d was %s: the test does not try it", *contracts*200, code)
		}
	}
	if accepted < *contracts*10 {
		t.Errorf("%d events of %d were accepted: the test tries little else than faults", accepted, *contracts*200)
	}
}

func compareContract(t *testing.T, r *random, what string, accepted *int, codes map[contract.Code]int) {
	r.mild = r.oneIn(2)
	c := r.contract()
	fast, err := New(c, Fast, time.Now)
	if err != nil {
		if strings.Contains(err.Error(), "of its paths some lie in an object") {
			return
		}
		t.Fatalf("%s: %v", what, err)
	}
	strict, err := New(c, Strict, time.Now)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	read := newReader(t, c.Table)
	for range 200 {
		value := r.event()
		m := meta
		if r.oneIn(3) {
			m.Key = []byte(r.one("", "k", "1", "\xff"))
		}
		if r.oneIn(3) {
			m.Headers = []batch.RecordHeader{{Key: []byte("h"), Value: []byte(r.one("", "k", "1", "a"))}}
		}
		got, gotErr := fast.AppendRow(nil, value, m)
		want, wantErr := strict.AppendRow(nil, value, m)
		if wantErr != nil {
			var w, g *Rejection
			switch {
			case !errors.As(wantErr, &w):
				if !errors.Is(gotErr, wantErr) {
					t.Fatalf("%s: %s\nfast   %v\nstrict %v\n%s", what, value, gotErr, wantErr, show(c))
				}
				codes["left out"]++
			case !errors.As(gotErr, &g) || g.Code != w.Code || g.Field != w.Field || g.Field != "" &&
				g.Message != w.Message:
				t.Fatalf("%s: %s\nfast   %v\nstrict %v\n%s", what, value, gotErr, wantErr, show(c))
			default:
				codes[w.Code]++
			}
			continue
		}
		if gotErr != nil {
			t.Fatalf("%s: %s\nfast   %v\nstrict accepts\n%s", what, value, gotErr, show(c))
		}
		*accepted++
		if g, w := normal(t, read, got), normal(t, read, want); g != w {
			t.Fatalf("%s: %s\nfast   %s\nstrict %s\n%s", what, value, g, w, show(c))
		}
	}
}

// normal is a row in a form that does not depend on the order of its columns.
func normal(t *testing.T, r reader, row []byte) string {
	m := dynamicpb.NewMessage(r.descriptor)
	if err := proto.Unmarshal(row, m); err != nil {
		t.Fatalf("row %x: %v", row, err)
	}
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.GetUnknown()) > 0 {
		t.Fatalf("row %x has fields that the table has not", row)
	}
	return fmt.Sprintf("%q", out)
}

// show writes what is needed to understand a find.
func show(c *contract.Contract) string {
	var b strings.Builder
	fmt.Fprintf(&b, "rest %d, sections %v, drop %v, sample %v\n", c.Rest, c.Sections, c.Drop, c.Sample)
	var columns func(indent string, columns []contract.Column, fields []contract.Field)
	columns = func(indent string, columns_ []contract.Column, fields []contract.Field) {
		for i, c := range columns_ {
			f := fields[i]
			var paths []string
			for _, p := range f.Paths {
				paths = append(paths, p.String())
			}
			fmt.Fprintf(&b, "%s%s %s req=%v rep=%v source=%d %v accept=%x skip=%v rest=%d when=%v\n", indent, c.Name,
				c.Type, c.Required, c.Repeated, f.Source, paths, f.Accept, f.SkipEmpty, f.Rest, f.RequiredWhen)
			columns(indent+"  ", c.Columns, f.Fields)
		}
	}
	columns("", c.Table.Columns, c.Fields)
	return b.String()
}
