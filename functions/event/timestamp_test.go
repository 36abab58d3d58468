package event

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Protects the forms of the contract, and what looks like them.
func TestParseTimestamp(t *testing.T) {
	utc := func(year int, month time.Month, day, hour, minute, second, micros int) int64 {
		return time.Date(year, month, day, hour, minute, second, micros*1000, time.UTC).UnixMicro()
	}
	plain := utc(2026, 1, 2, 3, 4, 5, 0)
	var clock clock
	for _, c := range []struct {
		what, text string
		want       int64
	}{
		{"RFC 3339 in UTC", "2026-01-02T03:04:05Z", plain},
		{"a small z", "2026-01-02T03:04:05z", plain},
		{"a small t", "2026-01-02t03:04:05Z", plain},
		{"a space between date and time", "2026-01-02 03:04:05Z", plain},
		{"no offset is UTC", "2026-01-02T03:04:05", plain},
		{"a space and no offset", "2026-01-02 03:04:05", plain},
		{"milliseconds", "2026-01-02T03:04:05.123Z", plain + 123_000},
		{"one digit", "2026-01-02T03:04:05.1", plain + 100_000},
		{"microseconds", "2026-01-02T03:04:05.123456Z", plain + 123_456},
		{"nanoseconds are cut off, not rounded", "2026-01-02T03:04:05.123456999Z", plain + 123_456},
		{"any number of digits", "2026-01-02T03:04:05." + strings.Repeat("9", 1000) + "+00:00", plain + 999_999},
		{"before 1970 they are cut off to the earlier", "1969-12-31T23:59:59.9999999Z", -1},
		{"an offset east", "2026-01-02T04:34:05+01:30", plain},
		{"an offset west into the day before", "2026-01-01T23:04:05-04:00", plain},
		{"an unknown offset is UTC", "2026-01-02T03:04:05-00:00", plain},
		{"the largest offset", "2026-01-03T03:03:05+23:59", plain},
		{"a leap day", "2024-02-29T00:00:00Z", utc(2024, 2, 29, 0, 0, 0, 0)},
		{"a leap day of a leap century", "2000-02-29T00:00:00Z", utc(2000, 2, 29, 0, 0, 0, 0)},
		{"the year 0", "0000-01-01T00:00:00Z", utc(0, 1, 1, 0, 0, 0, 0)},
		{"the first time of BigQuery's", "0001-01-01T00:00:00Z", minTimestamp},
		{"the last time of BigQuery's", "9999-12-31T23:59:59.999999Z", maxTimestamp},
	} {
		if got, err := ParseTimestamp([]byte(c.text)); err != nil || got != c.want {
			t.Errorf("%s: %q is %d (%v), want %d", c.what, c.text, got, err, c.want)
		}
		if got, err := clock.parse(append([]byte(c.text), "123456789"...)[:len(c.text)]); err != nil || got != c.want {
			t.Errorf("%s: %q is %d (%v) by the clock, want %d", c.what, c.text, got, err, c.want)
		}
	}
	for _, c := range []struct {
		what, text string
		err        error
	}{
		{"nothing", "", errTimestampForm},
		{"a date", "2026-01-02", errTimestampForm},
		{"no seconds", "2026-01-02T03:04Z", errTimestampForm},
		{"an hour of one digit", "2026-01-02T3:04:05Z", errTimestampForm},
		{"a comma before the fraction", "2026-01-02T03:04:05,5Z", errTimestampForm},
		{"no digit behind the point", "2026-01-02T03:04:05.Z", errTimestampForm},
		{"two points", "2026-01-02T03:04:05.5.5Z", errTimestampForm},
		{"an offset of 24 hours", "2026-01-02T03:04:05+24:00", errTimestampRange},
		{"an offset of 60 minutes", "2026-01-02T03:04:05+00:60", errTimestampRange},
		{"an offset without a colon", "2026-01-02T03:04:05+0100", errTimestampOffset},
		{"an offset of hours only", "2026-01-02T03:04:05+01", errTimestampOffset},
		{"an offset with seconds", "2026-01-02T03:04:05+01:00:00", errTimestampOffset},
		{"a space before the offset", "2026-01-02T03:04:05 Z", errTimestampForm},
		{"a space behind it all", "2026-01-02T03:04:05Z ", errTimestampForm},
		{"a space before it all", " 2026-01-02T03:04:05Z", errTimestampForm},
		{"the name of a zone", "2026-01-02T03:04:05 UTC", errTimestampForm},
		{"slashes", "2026/01/02T03:04:05Z", errTimestampForm},
		{"a sign", "+2026-01-02T03:04:05Z", errTimestampForm},
		{"five digits in the year", "12026-01-02T03:04:05Z", errTimestampForm},
		{"letters for digits", "2026-01-0aT03:04:05Z", errTimestampForm},
		{"month 0", "2026-00-02T03:04:05Z", errTimestampRange},
		{"month 13", "2026-13-02T03:04:05Z", errTimestampRange},
		{"day 0", "2026-01-00T03:04:05Z", errTimestampRange},
		{"31 April", "2026-04-31T03:04:05Z", errTimestampRange},
		{"29 February in a common year", "2026-02-29T03:04:05Z", errTimestampRange},
		{"29 February in a common century", "1900-02-29T03:04:05Z", errTimestampRange},
		{"hour 24", "2026-01-02T24:00:00Z", errTimestampRange},
		{"minute 60", "2026-01-02T03:60:05Z", errTimestampRange},
		{"second 61", "2026-01-02T03:04:61Z", errTimestampRange},
		{"a leap second", "2016-12-31T23:59:60Z", errTimestampSecond},
	} {
		if got, err := ParseTimestamp([]byte(c.text)); err != c.err {
			t.Errorf("%s: %q is %d (%v), want %v", c.what, c.text, got, err, c.err)
		}
		if got, err := clock.parse(append([]byte(c.text), "123456789"...)[:len(c.text)]); err != c.err {
			t.Errorf("%s: %q is %d (%v) by the clock, want %v", c.what, c.text, got, err, c.err)
		}
	}
}

// Protects the calendar: every day of the years 0 to 9999.
func TestEveryDay(t *testing.T) {
	day := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	for ; day.Year() < 10_000; day = day.AddDate(0, 0, 1) {
		text := day.AppendFormat(nil, "2006-01-02T15:04:05")
		if got, err := ParseTimestamp(text); err != nil || got != day.UnixMicro() {
			t.Fatalf("%s is %d (%v), want %d", text, got, err, day.UnixMicro())
		}
	}
}

var timestampForm = regexp.MustCompile(`\A([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))?\z`)

// slowTimestamp is the reference: a regular expression for the form, and the
// standard library's calendar.
func slowTimestamp(text string) (int64, bool) {
	parts := timestampForm.FindStringSubmatch(text)
	if parts == nil {
		return 0, false
	}
	number := func(i int) int { n, _ := strconv.Atoi(parts[i]); return n }
	year, month, day, hour, minute, second := number(1), number(2), number(3), number(4), number(5), number(6)
	at := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	// time.Date turns what does not exist into what does.
	if at.Year() != year || int(at.Month()) != month || at.Day() != day || at.Hour() != hour || at.Minute() != minute ||
		at.Second() != second {
		return 0, false
	}
	if number(9) > 23 || number(10) > 59 {
		return 0, false
	}
	offset := time.Duration(number(9))*time.Hour + time.Duration(number(10))*time.Minute
	if parts[8] == "-" {
		offset = -offset
	}
	micros, _ := strconv.ParseInt((parts[7] + "000000")[:6], 10, 64)
	return at.Add(-offset).UnixMicro() + micros, true
}

// Protects ParseTimestamp against any text: it answers as the slow reference does.
func FuzzTimestamp(f *testing.F) {
	for _, seed := range []string{"2026-01-02T03:04:05Z", "2026-01-02 03:04:05.123456789+01:30",
		"0000-02-29t23:59:59.9-23:59", "2016-12-31T23:59:60Z", "2026-01-02T3:04:05,5+24:00",
		"9999-12-31T23:59:59.999999z"} {
		f.Add(seed)
	}
	var c clock
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTimestamp([]byte(text))
		want, ok := slowTimestamp(text)
		if ok != (err == nil) || ok && got != want {
			t.Fatalf("%q is %d (%v), the reference says %d (%v)", text, got, err, want, ok)
		}
		for _, behind := range []string{"", `"`, "1234567890", "\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
			text := append([]byte(text), behind...)[:len(text)]
			if same, sameErr := c.parse(text); same != got || sameErr != err {
				t.Fatalf("%q before %q is %d (%v) by the clock, %d (%v) without", text, behind, same, sameErr, got, err)
			}
		}
	})
}

// A time is the same varint whichever way it is made: the fast one has edges.
func TestAppendMicros(t *testing.T) {
	for _, edge := range []int64{minTimestamp, -1, 0, 1, 1 << 28, 1 << 42, 1 << 49, 1 << 56, 1 << 57, maxTimestamp} {
		for _, at := range []int64{edge - 1, edge, edge + 1} {
			if got, want := appendMicros(nil, at), protowire.AppendVarint(nil, uint64(at)); !bytes.Equal(got, want) {
				t.Errorf("%d is % x, want % x", at, got, want)
			}
		}
	}
	for bit := range 64 {
		if got, want := appendMicros(nil, 1<<55|1<<bit), protowire.AppendVarint(nil, 1<<55|1<<bit); !bytes.Equal(got, want) {
			t.Errorf("bit %d: % x, want % x", bit, got, want)
		}
	}
}
