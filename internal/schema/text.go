package schema

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/big"
	"strconv"
	"time"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string; ok is false if it is not valid UTF-8.
func appendString(dst, s []byte) (_ []byte, ok bool) {
	dst = append(dst, '"')
	begin, ascii := 0, true
	for i, c := range s {
		if c >= utf8.RuneSelf {
			ascii = false
		}
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[begin:i]...)
		begin = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	dst = append(dst, s[begin:]...)
	return append(dst, '"'), ascii || utf8.Valid(s)
}

// quote is s, which is valid UTF-8, as a JSON string.
func quote(s string) []byte {
	q, _ := appendString(nil, []byte(s))
	return q
}

func appendBase64(dst, b []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}

// appendFloat appends a number. Those that JSON has none for become strings, by the names that Protobuf's JSON has
// for them: https://protobuf.dev/programming-guides/json/.
func appendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, 64)
}

// appendDecimal appends the number that is unscaled, big endian in two's complement, divided by ten to the power of
// scale.
func appendDecimal(dst, unscaled []byte, scale int) []byte {
	for len(unscaled) > 8 && (unscaled[0] == 0 && unscaled[1] < 0x80 || unscaled[0] == 0xff && unscaled[1] >= 0x80) {
		unscaled = unscaled[1:] // only the sign
	}
	var digits []byte
	var buffer [24]byte
	negative := len(unscaled) > 0 && unscaled[0] >= 0x80
	if len(unscaled) <= 8 {
		var v int64
		if negative {
			v = -1
		}
		for _, b := range unscaled {
			v = v<<8 | int64(b)
		}
		u := uint64(v)
		if negative {
			u = -u
		}
		digits = strconv.AppendUint(buffer[:0], u, 10)
	} else {
		v := new(big.Int).SetBytes(unscaled)
		if negative {
			v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(len(unscaled))*8)).Neg(v)
		}
		digits = v.Append(nil, 10)
	}
	if negative {
		dst = append(dst, '-')
	}
	if scale <= 0 {
		dst = append(dst, digits...)
		if len(digits) > 1 || digits[0] != '0' {
			for range -scale {
				dst = append(dst, '0')
			}
		}
		return dst
	}
	whole := len(digits) - scale
	if whole <= 0 {
		dst = append(dst, '0')
	} else {
		dst = append(dst, digits[:whole]...)
	}
	dst = append(dst, '.')
	for ; whole < 0; whole++ {
		dst = append(dst, '0')
	}
	return append(dst, digits[whole:]...)
}

// appendUUID appends the 16 bytes as a string, as RFC 9562 writes them.
func appendUUID(dst, b []byte) []byte {
	dst = append(dst, '"')
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
	}
	return append(dst, '"')
}

// appendDuration appends the twelve bytes of Avro's duration (months, days, milliseconds, each unsigned and little
// endian) as ISO 8601.
func appendDuration(dst, b []byte) []byte {
	months, days, millis := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	dst = append(dst, `"P`...)
	dst = strconv.AppendUint(dst, uint64(months), 10)
	dst = append(dst, 'M')
	dst = strconv.AppendUint(dst, uint64(days), 10)
	dst = append(dst, "DT"...)
	dst = strconv.AppendUint(dst, uint64(millis/1000), 10)
	dst = appendFraction(dst, int(millis%1000)*1_000_000)
	return append(dst, `S"`...)
}

// appendFraction appends a part of a second with as many digits as it has, three or six or nine.
func appendFraction(dst []byte, nanos int) []byte {
	if nanos == 0 {
		return dst
	}
	digits := 9
	for nanos%1000 == 0 {
		nanos /= 1000
		digits -= 3
	}
	dst = append(dst, '.')
	for unit := pow10[digits-1]; unit > 0; unit /= 10 {
		dst = append(dst, byte('0'+nanos/unit%10))
	}
	return dst
}

var pow10 = [...]int{1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000}

const secondsOfDay = 24 * 60 * 60

// appendDate appends days since 1970-01-01; without quotes, as the next two.
func appendDate(dst []byte, days int64) []byte {
	year, month, day := civil(days)
	switch { // as ISO 8601 writes years that do not have four digits
	case year < 0:
		dst = append(dst, '-')
		year = -year
	case year > 9999:
		dst = append(dst, '+')
	}
	for limit := int64(1000); limit > year && limit > 1; limit /= 10 {
		dst = append(dst, '0')
	}
	dst = strconv.AppendInt(dst, year, 10)
	dst = append(dst, '-')
	dst = appendTwo(dst, month)
	dst = append(dst, '-')
	return appendTwo(dst, day)
}

func appendTwo(dst []byte, n int) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }

// appendClock appends a time of day; seconds are below a day's.
func appendClock(dst []byte, seconds, nanos int) []byte {
	dst = appendTwo(dst, seconds/3600)
	dst = append(dst, ':')
	dst = appendTwo(dst, seconds/60%60)
	dst = append(dst, ':')
	dst = appendTwo(dst, seconds%60)
	return appendFraction(dst, nanos)
}

// appendInstant appends seconds and nanoseconds since 1970 as date and time.
func appendInstant(dst []byte, seconds int64, nanos int) []byte {
	days := seconds / secondsOfDay
	if seconds %= secondsOfDay; seconds < 0 {
		days--
		seconds += secondsOfDay
	}
	dst = appendDate(dst, days)
	dst = append(dst, 'T')
	return appendClock(dst, int(seconds), nanos)
}

// split divides a count of units, of which a second has perSecond, into seconds and nanoseconds.
func split(v, perSecond int64) (seconds int64, nanos int) {
	seconds = v / perSecond
	rest := v % perSecond
	if rest < 0 {
		seconds--
		rest += perSecond
	}
	return seconds, int(rest * (int64(time.Second) / perSecond))
}

// civil is the date of a day since 1970-01-01 in the proleptic Gregorian calendar, by Howard Hinnant's days_from_civil
// turned round: https://howardhinnant.github.io/date_algorithms.html#civil_from_days.
func civil(days int64) (year int64, month, day int) {
	days += 719_468
	era := days / 146_097
	if days < 0 && days%146_097 != 0 {
		era--
	}
	doe := days - era*146_097
	yoe := (doe - doe/1460 + doe/36_524 - doe/146_096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day = int(doy - (153*mp+2)/5 + 1)
	month = int(mp + 3)
	year = yoe + era*400
	if month > 12 {
		month -= 12
		year++
	}
	return year, month, day
}
