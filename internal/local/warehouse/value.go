package warehouse

import (
	"bytes"
	"database/sql/driver"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	duckdb "github.com/duckdb/duckdb-go/v2"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/descriptorpb"

	"sluice/internal/contract"
)

// BigQuery's TIMESTAMP spans the years 1 to 9999.
var (
	minTimestamp = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	maxTimestamp = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() - 1
)

const malformed = "Failed to parse the row: malformed protocol buffer"

// varint makes a value of one; problem completes "Field …: ".
func (f *field) varint(v uint64) (value driver.Value, problem string) {
	n := int64(v)
	switch f.typ {
	case descriptorpb.FieldDescriptorProto_TYPE_BOOL:
		return v != 0, ""
	case descriptorpb.FieldDescriptorProto_TYPE_SINT64, descriptorpb.FieldDescriptorProto_TYPE_SINT32:
		n = protowire.DecodeZigZag(v)
	case descriptorpb.FieldDescriptorProto_TYPE_INT32:
		n = int64(int32(v))
	case descriptorpb.FieldDescriptorProto_TYPE_UINT32:
		n = int64(uint32(v))
	}
	switch f.kind {
	case contract.Timestamp:
		if n < minTimestamp || n > maxTimestamp {
			return nil, "timestamp out of range: want 0001-01-01 to 9999-12-31"
		}
		if f.nested {
			return time.UnixMicro(n).UTC(), ""
		}
	case contract.Date:
		day := time.Unix(n*86400, 0).UTC()
		if year := day.Year(); n < -1e6 || n > 1e7 || year < 1 || year > 9999 {
			return nil, "date out of range: want 0001-01-01 to 9999-12-31"
		}
		return day, ""
	case contract.Time:
		d, ok := clock(n)
		if !ok || n>>37 != 0 {
			return nil, "is no encoded TIME"
		}
		return time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC).Add(d), ""
	case contract.DateTime:
		d, ok := clock(n & (1<<37 - 1))
		year, month, day := int(n>>46), time.Month(n>>42&15), int(n>>37&31)
		at := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
		if !ok || year < 1 || year > 9999 || at.Month() != month || at.Day() != day {
			return nil, "is no encoded DATETIME"
		}
		return at.Add(d), ""
	}
	return n, ""
}

// clock reads the time of a day from the bits h<<32 | m<<26 | s<<20 | µs.
func clock(n int64) (time.Duration, bool) {
	h, m, s, us := n>>32&31, n>>26&63, n>>20&63, n&(1<<20-1)
	d := time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second +
		time.Duration(us)*time.Microsecond
	return d, h < 24 && m < 60 && s < 60 && us < 1_000_000
}

// text makes a value of bytes.
func (f *field) text(v []byte) (value driver.Value, problem string) {
	c := &f.columnType
	switch f.kind {
	case contract.String, contract.Geography, contract.Interval:
		if !utf8.Valid(v) {
			return nil, "the string is not valid UTF-8"
		}
		if n := c.MaxLength; n > 0 && len(v) > n && utf8.RuneCount(v) > n {
			return nil, fmt.Sprintf("the string has more than the maximum of %d characters", n)
		}
		if f.kind == contract.Interval {
			return interval(string(v))
		}
		if f.kind == contract.Geography && len(bytes.TrimSpace(v)) == 0 {
			return nil, "is no geography"
		}
		if f.nested {
			return string(v), ""
		}
	case contract.JSON:
		if !jsontext.Value(v).IsValid(jsontext.AllowDuplicateNames(true)) {
			return nil, "the value is not valid JSON"
		}
		if wideNumber(v) {
			return nil, "the value has a number that FLOAT64 cannot hold"
		}
		if f.nested {
			return string(v), ""
		}
	case contract.Bytes:
		if n := c.MaxLength; n > 0 && len(v) > n {
			return nil, fmt.Sprintf("the value has more than the maximum of %d bytes", n)
		}
	case contract.Numeric:
		return number(v, 16, 38, 9, c)
	case contract.BigNumeric:
		// It has more digits than DuckDB's numbers: the text keeps all of them.
		n, problem := number(v, 32, 77, 38, c)
		if problem != "" {
			return nil, problem
		}
		return digits(n.(*big.Int), 38), ""
	}
	return v, ""
}

// The ends of BIGNUMERIC, times 10^38: those of a signed number of 256 bits.
var (
	maxBig = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(1))
	minBig = new(big.Int).Neg(new(big.Int).Lsh(big.NewInt(1), 255))
)

// number reads the two's complement of a number times 10^scale, lowest byte first.
func number(v []byte, most, precision, scale int, c *contract.Column) (driver.Value, string) {
	if len(v) == 0 || len(v) > most {
		return nil, fmt.Sprintf("has %d bytes, want 1 to %d", len(v), most)
	}
	b := slices.Clone(v)
	slices.Reverse(b)
	n := new(big.Int).SetBytes(b)
	if b[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(precision)), nil)
	if precision == 38 && n.CmpAbs(limit) >= 0 || n.Cmp(maxBig) > 0 || n.Cmp(minBig) < 0 {
		return nil, "is out of the range of " + string(c.Type)
	}
	if c.Precision > 0 {
		unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale-c.Scale)), nil)
		whole, rest := new(big.Int).QuoRem(n, unit, new(big.Int))
		if rest.Sign() != 0 || whole.CmpAbs(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(c.Precision)),
			nil)) >= 0 {
			return nil, fmt.Sprintf("does not fit %s(%d, %d)", c.Type, c.Precision, c.Scale)
		}
	}
	return n, ""
}

// digits writes n / 10^scale without zeros at the end of its fraction.
func digits(n *big.Int, scale int) string {
	text := new(big.Int).Abs(n).String()
	if missing := scale + 1 - len(text); missing > 0 {
		text = strings.Repeat("0", missing) + text
	}
	whole, fraction := text[:len(text)-scale], strings.TrimRight(text[len(text)-scale:], "0")
	if fraction != "" {
		whole += "." + fraction
	}
	if n.Sign() < 0 {
		whole = "-" + whole
	}
	return whole
}

var intervalText = regexp.MustCompile(`^([+-]?)(\d{1,5})-(\d{1,2}) ([+-]?\d{1,7}) ([+-]?)(\d{1,8}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,9}))?$`)

// interval reads BigQuery's canonical form, such as 1-2 3 4:5:6.789.
func interval(s string) (driver.Value, string) {
	p := intervalText.FindStringSubmatch(s)
	if p == nil {
		return nil, "is no interval in the form Y-M D H:M:S"
	}
	at := make([]int64, len(p))
	for i := range p {
		at[i], _ = strconv.ParseInt(p[i], 10, 64)
	}
	months := at[2]*12 + at[3]
	micros := at[6]*3_600_000_000 + at[7]*60_000_000 + at[8]*1_000_000
	fraction, _ := strconv.ParseInt((p[9] + "000000")[:6], 10, 64)
	micros += fraction
	if at[3] > 11 || at[7] > 59 || at[8] > 59 || months > 120_000 || at[4] < -3_660_000 || at[4] > 3_660_000 ||
		micros > 316_224_000_000_000_000 {
		return nil, "is out of the range of INTERVAL"
	}
	if p[1] == "-" {
		months = -months
	}
	if p[5] == "-" {
		micros = -micros
	}
	return duckdb.Interval{Months: int32(months), Days: int32(at[4]), Micros: micros}, ""
}

// wideNumber reports whether JSON that is valid has a number that is not finite as FLOAT64.
func wideNumber(v []byte) bool {
	suspect, digits := false, 0
	for i, c := range v {
		switch {
		case '0' <= c && c <= '9':
			if digits++; digits > 308 {
				suspect = true
			}
			continue
		case (c == 'e' || c == 'E') && digits > 0 && i+3 < len(v):
			suspect = true
		}
		digits = 0
	}
	if !suspect {
		return false
	}
	d := jsontext.NewDecoder(bytes.NewReader(v), jsontext.AllowDuplicateNames(true))
	for {
		token, err := d.ReadToken()
		if err != nil {
			return false // the end
		}
		if token.Kind() == '0' {
			if _, err := strconv.ParseFloat(token.String(), 64); err != nil {
				return true
			}
		}
	}
}

// duckType is the type of a column in DuckDB. BIGNUMERIC and GEOGRAPHY are text there.
func duckType(c contract.Column) string {
	var name string
	switch c.Type {
	case contract.Int64:
		name = "BIGINT"
	case contract.Float64:
		name = "DOUBLE"
	case contract.Bool:
		name = "BOOLEAN"
	case contract.Timestamp:
		name = "TIMESTAMP WITH TIME ZONE"
	case contract.DateTime:
		name = "TIMESTAMP"
	case contract.Date:
		name = "DATE"
	case contract.Time:
		name = "TIME"
	case contract.Interval:
		name = "INTERVAL"
	case contract.Numeric:
		name = "DECIMAL(38,9)"
	case contract.JSON:
		name = "JSON"
	case contract.Bytes:
		name = "BLOB"
	case contract.Record, contract.RangeOf:
		var fields []string
		for _, f := range inner(c) {
			fields = append(fields, quote(f.Name)+" "+duckType(f))
		}
		name = "STRUCT(" + strings.Join(fields, ", ") + ")"
	default:
		name = "VARCHAR"
	}
	if c.Repeated {
		name += "[]"
	}
	return name
}

// inner is the columns within a RECORD or a RANGE, nil for any other column.
func inner(c contract.Column) []contract.Column {
	if c.Type == contract.RangeOf {
		return []contract.Column{{Name: "start", Type: c.Element, Number: 1}, {Name: "end", Type: c.Element, Number: 2}}
	}
	return c.Columns
}

// staging is the type in which a column's values come, and the expression that makes the
// column of it.
func staging(c contract.Column, nested bool) (duckdb.TypeInfo, string, error) {
	if c.Repeated {
		c.Repeated = false
		element, _, err := staging(c, true)
		if err != nil {
			return nil, "", err
		}
		list, err := duckdb.NewListInfo(element)
		c.Repeated = true
		return list, "%s::" + duckType(c), err
	}
	plain := func(t duckdb.Type, expression string) (duckdb.TypeInfo, string, error) {
		info, err := duckdb.NewTypeInfo(t)
		return info, expression, err
	}
	switch c.Type {
	case contract.Int64:
		return plain(duckdb.TYPE_BIGINT, "%s")
	case contract.Timestamp:
		if nested {
			return plain(duckdb.TYPE_TIMESTAMP_TZ, "%s")
		}
		return plain(duckdb.TYPE_BIGINT, "make_timestamptz(%s)")
	case contract.Float64:
		return plain(duckdb.TYPE_DOUBLE, "%s")
	case contract.Bool:
		return plain(duckdb.TYPE_BOOLEAN, "%s")
	case contract.JSON:
		return plain(duckdb.TYPE_VARCHAR, "%s::JSON")
	case contract.Bytes:
		return plain(duckdb.TYPE_BLOB, "%s")
	case contract.DateTime:
		return plain(duckdb.TYPE_TIMESTAMP, "%s")
	case contract.Date:
		return plain(duckdb.TYPE_DATE, "%s")
	case contract.Time:
		return plain(duckdb.TYPE_TIME, "%s")
	case contract.Interval:
		return plain(duckdb.TYPE_INTERVAL, "%s")
	case contract.Numeric:
		info, err := duckdb.NewDecimalInfo(38, 9)
		return info, "%s", err
	case contract.Record, contract.RangeOf:
		var entries []duckdb.StructEntry
		for _, f := range inner(c) {
			info, _, err := staging(f, true)
			if err != nil {
				return nil, "", err
			}
			entry, err := duckdb.NewStructEntry(info, f.Name)
			if err != nil {
				return nil, "", err
			}
			entries = append(entries, entry)
		}
		if len(entries) == 0 {
			return nil, "", fmt.Errorf("the column %s is a RECORD without columns", c.Name)
		}
		info, err := duckdb.NewStructInfo(entries[0], entries[1:]...)
		return info, "%s::" + duckType(c), err
	default:
		return plain(duckdb.TYPE_VARCHAR, "%s")
	}
}

// microseconds is a top-level value of time since the Unix epoch.
func microseconds(v driver.Value) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case time.Time:
		return v.UnixMicro(), true
	}
	return 0, false
}
