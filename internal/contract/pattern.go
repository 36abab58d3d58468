package contract

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// directives has the directives of strptime that a pattern may have, and what package time
// calls them. What names a time zone by letters (%Z) is not among them: CST is three of them.
var directives = map[string]struct {
	layout string
	parts  string // of a date or a time that it says
}{
	"%Y": {"2006", "Y"}, "%y": {"06", "Y"}, "%m": {"01", "m"}, "%d": {"02", "d"}, "%e": {"_2", "d"}, "%j": {"002", "md"},
	"%b": {"Jan", "m"}, "%h": {"Jan", "m"}, "%B": {"January", "m"}, "%a": {"Mon", ""}, "%A": {"Monday", ""},
	"%H": {"15", "H"}, "%I": {"03", "I"}, "%p": {"PM", "p"}, "%M": {"04", "M"}, "%S": {"05", "S"},
	"%E*S": {"05.999999999", "S"}, "%S.%f": {"05.999999999", "S"},
	"%z": {"-0700", "z"}, "%Ez": {"-07:00", "z"},
	"%F": {"2006-01-02", "Ymd"}, "%D": {"01/02/06", "mdY"}, "%T": {"15:04:05", "HMS"}, "%R": {"15:04", "HM"},
	"%%": {"%", ""},
}

// The times whose texts show whether a layout means what its pattern says.
var probes = []time.Time{
	time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	time.Date(1999, 12, 31, 23, 58, 59, 123456000, time.FixedZone("", -7*3600)),
	time.Date(2031, 10, 7, 15, 46, 38, 500000000, time.FixedZone("", 5*3600+1800)),
}

// ParseLayout compiles a pattern of time for values of type t, in the notation of strptime
// that BigQuery's PARSE_TIMESTAMP has too. It must say all of t and nothing else; a
// TIMESTAMP without %z is UTC.
func ParseLayout(pattern string, t Type) (Layout, error) {
	l := Layout{Text: pattern}
	has := make(map[rune]bool)
	type piece struct{ text, layout string } // layout: of a directive
	var pieces []piece
	for rest := pattern; rest != ""; {
		if rest[0] != '%' {
			n := strings.IndexByte(rest, '%')
			if n < 0 {
				n = len(rest)
			}
			pieces, rest = append(pieces, piece{text: rest[:n]}), rest[n:]
			continue
		}
		n := 2
		for _, long := range []string{"%E*S", "%Ez", "%S.%f"} {
			if strings.HasPrefix(rest, long) {
				n = len(long)
			}
		}
		if len(rest) < n {
			return l, errors.New("ends with a single %: write %% for the character")
		}
		d, ok := directives[rest[:n]]
		if !ok {
			return l, fmt.Errorf("has %s, which is not known here: use %%Y %%m %%d %%H %%M %%S %%z and their like, %%S.%%f "+
				"for seconds with a fraction", rest[:n])
		}
		for _, part := range d.parts {
			if has[part] {
				return l, fmt.Errorf("says with %s what another directive has said", rest[:n])
			}
			has[part] = true
		}
		pieces, rest = append(pieces, piece{layout: d.layout}), rest[n:]
	}
	for _, p := range pieces {
		l.Go += p.text + p.layout
	}
	date, clock := has['Y'] && has['m'] && has['d'], has['H'] || has['I'] && has['p']
	switch {
	case has['H'] && (has['I'] || has['p']) || has['I'] != has['p']:
		return l, errors.New("mixes the clocks: use %H alone, or %I with %p")
	case clock && has['S'] && !has['M']:
		return l, errors.New("has seconds without minutes")
	case (has['M'] || has['S']) && !clock:
		return l, errors.New("has minutes or seconds without the hour")
	case t != Time && !date:
		return l, errors.New("says no whole date: it must have the year, month and day")
	case t == Time && (has['Y'] || has['m'] || has['d']):
		return l, errors.New("has parts of a date, which a TIME cannot hold")
	case t == Time && !clock:
		return l, errors.New("says no hour: use %H, or %I with %p")
	case t == Date && clock:
		return l, errors.New("has parts of a time, which a DATE cannot hold: make the column a TIMESTAMP or DATETIME")
	case has['z'] && t != Timestamp:
		return l, fmt.Errorf("has an offset, which a %s cannot hold: make the column a TIMESTAMP", t)
	}
	for _, at := range probes {
		var want strings.Builder
		for _, p := range pieces {
			want.WriteString(p.text)
			if p.layout != "" {
				want.WriteString(at.Format(p.layout))
			}
		}
		text := at.Format(l.Go)
		if text != want.String() {
			return l, errors.New("has plain text that cannot be told from a part of the time: use %-directives for all of the time")
		}
		back, err := time.Parse(l.Go, text)
		if err != nil || back.Format(l.Go) != text {
			return l, errors.New("cannot be read back: put something between its directives")
		}
	}
	return l, nil
}

// clash returns a text that both layouts read, as different times.
func (l Layout) clash(other Layout) (string, bool) {
	for _, at := range []time.Time{
		time.Date(2004, 3, 2, 1, 5, 6, 0, time.UTC), time.Date(2011, 12, 10, 9, 8, 7, 0,
			time.UTC), probes[1], probes[2],
	} {
		for _, pair := range [][2]Layout{{l, other}, {other, l}} {
			text := at.Format(pair[0].Go)
			one, err := time.Parse(pair[0].Go, text)
			if err != nil {
				continue
			}
			if two, err := time.Parse(pair[1].Go, text); err == nil && !one.Equal(two) {
				return text, true
			}
		}
	}
	return "", false
}

// digitsOnly reports whether every text of the layout is a number, as an epoch is.
func (l Layout) digitsOnly() bool {
	for _, at := range probes {
		if strings.Trim(at.Format(l.Go), "0123456789.") == "" {
			return true
		}
	}
	return false
}
