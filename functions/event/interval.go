package event

import (
	"bytes"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/contract"
)

// interval is a length of time in the three parts that BigQuery keeps apart.
type interval struct{ months, days, micros int64 }

// The largest parts of an interval, either way: 10,000 years. See
// https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#interval_type.
const (
	maxIntervalMonths = 10_000 * 12
	maxIntervalDays   = 3_660_000
	maxIntervalMicros = 87_840_000 * 3600 * 1_000_000
)

var (
	problemISOInterval = &problem{contract.CodeInvalidValue, "is no interval: want the form of P1Y2M3DT4H5M6.789S"}
	problemSQLInterval = &problem{contract.CodeInvalidValue, "is no interval: want the form of 1-2 3 4:5:6.789"}
	problemLongest     = &problem{contract.CodeOutOfRange, "is longer than 10,000 years"}
)

// appendInterval appends an INTERVAL, which is sent in the form Y-M D H:M:S.F.
func (c *column) appendInterval(row, text []byte) ([]byte, *problem) {
	var v interval
	ok, wrong := false, problemISOInterval
	if c.accept&contract.FormISO != 0 {
		v, ok = parseISOInterval(text)
	}
	if !ok && c.accept&contract.FormSQL != 0 {
		wrong = problemSQLInterval
		v, ok = parseSQLInterval(text)
	}
	if !ok {
		return row, wrong
	}
	if abs(v.months) > maxIntervalMonths || abs(v.days) > maxIntervalDays || abs(v.micros) > maxIntervalMicros {
		return row, problemLongest
	}
	var room [64]byte
	row = protowire.AppendVarint(row, c.tag)
	return protowire.AppendBytes(row, v.append(room[:0])), nil
}

func abs(n int64) int64 { return max(n, -n) }

// append appends the canonical form.
func (v interval) append(dst []byte) []byte {
	if v.months < 0 {
		dst = append(dst, '-')
	}
	dst = strconv.AppendInt(dst, abs(v.months)/12, 10)
	dst = append(dst, '-')
	dst = strconv.AppendInt(dst, abs(v.months)%12, 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, v.days, 10)
	dst = append(dst, ' ')
	if v.micros < 0 {
		dst = append(dst, '-')
	}
	t := abs(v.micros)
	seconds := t / 1_000_000
	dst = strconv.AppendInt(dst, seconds/3600, 10)
	dst = append(dst, ':')
	dst = strconv.AppendInt(dst, seconds/60%60, 10)
	dst = append(dst, ':')
	dst = strconv.AppendInt(dst, seconds%60, 10)
	if fraction := t % 1_000_000; fraction != 0 {
		dst = append(dst, '.')
		for unit := int64(100_000); unit > 0 && fraction > 0; unit /= 10 {
			dst = append(dst, byte('0'+fraction/unit))
			fraction %= unit
		}
	}
	return dst
}

// digits reads decimal digits at the beginning of s, twelve at the most.
func digits(s []byte) (n int64, rest []byte, ok bool) {
	i := 0
	for i < len(s) && s[i]-'0' <= 9 {
		n = n*10 + int64(s[i]-'0')
		i++
	}
	return n, s[i:], 0 < i && i <= 12
}

// sign reads a sign at the beginning of s.
func sign(s []byte) (factor int64, rest []byte) {
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		if s[0] == '-' {
			return -1, s[1:]
		}
		return 1, s[1:]
	}
	return 1, s
}

// fraction reads a point and up to six digits, in millionths, if there is a point.
func fraction(s []byte) (micros int64, rest []byte, ok bool) {
	if len(s) == 0 || s[0] != '.' {
		return 0, s, true
	}
	n, rest, ok := digits(s[1:])
	places := len(s) - 1 - len(rest)
	if !ok || places > 6 {
		return 0, s, false
	}
	for ; places < 6; places++ {
		n *= 10
	}
	return n, rest, true
}

// parseSQLInterval reads [-]Y-M [-]D [-]H:M:S[.F].
func parseSQLInterval(s []byte) (v interval, ok bool) {
	var n [6]int64
	var factors [3]int64
	ends := [6]byte{'-', ' ', ' ', ':', ':', 0}
	for i := range n {
		if i == 0 || i == 2 || i == 3 {
			factors[max(i-1, 0)], s = sign(s)
		}
		if n[i], s, ok = digits(s); !ok {
			return v, false
		}
		if end := ends[i]; end != 0 {
			if len(s) == 0 || s[0] != end {
				return v, false
			}
			s = s[1:]
		}
	}
	micros, s, ok := fraction(s)
	if !ok || len(s) > 0 || n[1] > 11 || n[4] > 59 || n[5] > 59 {
		return v, false
	}
	return interval{
		months: factors[0] * (n[0]*12 + n[1]), days: factors[1] * n[2],
		micros: factors[2] * (saturated(n[3], 3600_000_000) + n[4]*60_000_000 + n[5]*1_000_000 + micros),
	}, true
}

// saturated is n times unit, or more than any interval has.
func saturated(n, unit int64) int64 { return min(n, maxIntervalMicros/unit+1) * unit }

// parseISOInterval reads a duration of ISO 8601, whose numbers may have signs.
func parseISOInterval(s []byte) (v interval, ok bool) {
	if len(s) < 3 || s[0] != 'P' {
		return v, false
	}
	s = s[1:]
	units, time := "YMWD", false
	for len(s) > 0 {
		if s[0] == 'T' && !time {
			units, time = "HMS", true
			if s = s[1:]; len(s) == 0 {
				return v, false
			}
			continue
		}
		factor, rest := sign(s)
		n, rest, good := digits(rest)
		if !good || len(rest) == 0 {
			return v, false
		}
		micros, rest, good := fraction(rest)
		if !good || len(rest) == 0 {
			return v, false
		}
		unit := strings.IndexByte(units, rest[0])
		if unit < 0 || rest[0] != 'S' && bytes.IndexByte(s[:len(s)-len(rest)], '.') >= 0 {
			return v, false // only seconds have a fraction
		}
		switch {
		case time && rest[0] == 'H':
			v.micros += factor * saturated(n, 3600_000_000)
		case time && rest[0] == 'M':
			v.micros += factor * saturated(n, 60_000_000)
		case time:
			v.micros += factor * (saturated(n, 1_000_000) + micros)
		case rest[0] == 'Y':
			v.months += factor * n * 12
		case rest[0] == 'M':
			v.months += factor * n
		case rest[0] == 'W':
			v.days += factor * n * 7
		default:
			v.days += factor * n
		}
		ok = true
		units, s = units[unit+1:], rest[1:]
	}
	return v, ok
}
