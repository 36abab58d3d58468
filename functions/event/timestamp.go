package event

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// What BigQuery's TIMESTAMP holds, in microseconds since the Unix epoch.
const (
	minTimestamp = -62_135_596_800_000_000 // 0001-01-01T00:00:00Z
	maxTimestamp = 253_402_300_799_999_999 // 9999-12-31T23:59:59.999999Z
)

// The errors of ParseTimestamp complete a sentence, and do not repeat the text.
var (
	errTimestampForm   = errors.New("want RFC 3339, such as 2026-01-31T23:59:59.123456Z")
	errTimestampOffset = errors.New("want an offset of hours and minutes with a colon, such as +01:00, or Z")
	errTimestampRange  = errors.New("no such date, time or offset exists")
	errTimestampSecond = errors.New("leap seconds cannot be stored: send second 59")
)

// ParseTimestamp reads a timestamp, in microseconds since the Unix epoch. The form
// is that of RFC 3339, yyyy-mm-dd hh:mm:ss with 'T', 't' or a space between, any
// number of digits after a point (what is below a microsecond is cut off) and 'Z',
// 'z' or an offset of hours and minutes; without an offset it is UTC. Years are 0000
// to 9999, and the offset may lead beyond them. Leap seconds (:60) are refused:
// neither BigQuery nor Unix time has them.
//
// It is stricter than time.Parse, which takes hours of one digit, a comma before the
// fraction, and offsets of 24 hours and more.
func ParseTimestamp(s []byte) (int64, error) {
	const form = "yyyy-mm-ddThh:mm:ss"
	if len(s) < len(form) ||
		s[4] != '-' || s[7] != '-' || s[13] != ':' || s[16] != ':' ||
		(s[10] != 'T' && s[10] != 't' && s[10] != ' ') {
		return 0, errTimestampForm
	}
	century, ok0 := digits2(s[0], s[1])
	year, ok1 := digits2(s[2], s[3])
	month, ok2 := digits2(s[5], s[6])
	day, ok3 := digits2(s[8], s[9])
	hour, ok4 := digits2(s[11], s[12])
	minute, ok5 := digits2(s[14], s[15])
	second, ok6 := digits2(s[17], s[18])
	if !(ok0 && ok1 && ok2 && ok3 && ok4 && ok5 && ok6) {
		return 0, errTimestampForm
	}
	year += century * 100
	s = s[len(form):]

	micros := int64(0)
	if len(s) > 0 && s[0] == '.' {
		i := 1
		for scale := int64(100_000); i < len(s) && s[i]-'0' <= 9; i++ {
			micros += int64(s[i]-'0') * scale
			scale /= 10 // 0 from the seventh digit on
		}
		if i == 1 {
			return 0, errTimestampForm
		}
		s = s[i:]
	}

	offset := 0 // seconds
	switch {
	case len(s) == 0:
	case len(s) == 1 && (s[0] == 'Z' || s[0] == 'z'):
	case len(s) == len("+hh:mm") && (s[0] == '+' || s[0] == '-') && s[3] == ':':
		h, ok0 := digits2(s[1], s[2])
		m, ok1 := digits2(s[4], s[5])
		if !ok0 || !ok1 {
			return 0, errTimestampOffset
		}
		if h > 23 || m > 59 {
			return 0, errTimestampRange
		}
		offset = (h*60 + m) * 60
		if s[0] == '-' {
			offset = -offset
		}
	case s[0] == '+' || s[0] == '-':
		return 0, errTimestampOffset
	default:
		return 0, errTimestampForm
	}
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 {
		return 0, errTimestampRange
	}
	if second > 59 {
		if second == 60 {
			return 0, errTimestampSecond
		}
		return 0, errTimestampRange
	}
	seconds := daysSinceEpoch(year, month, day)*86_400 + int64(hour*3600+minute*60+second-offset)
	return seconds*1_000_000 + micros, nil
}

// digits2 is the number that two decimal digits write.
func digits2(tens, ones byte) (int, bool) {
	t, o := tens-'0', ones-'0'
	return int(t)*10 + int(o), t <= 9 && o <= 9
}

func daysIn(year, month int) int {
	if month == 2 {
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 30 + (month+month>>3)&1
}

// daysSinceEpoch counts days of the Gregorian calendar in years that begin with
// March, so that the leap day is the last. See
// https://howardhinnant.github.io/date_algorithms.html#days_from_civil.
func daysSinceEpoch(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	year += 400 // keeps January and February of year 0 above zero; one whole cycle
	era, ofEra := year/400, year%400
	ofYear := (153*(month-3)+2)/5 + day - 1
	return int64(era)*146_097 + int64(ofEra*365+ofEra/4-ofEra/100+ofYear) - 719_468 - 146_097
}

// clock is ParseTimestamp for many timestamps of few months: it remembers the last
// month, and reads the time and the fraction as numbers of eight digits. What is
// not quite usual it leaves to ParseTimestamp.
type clock struct {
	month [8]byte // yyyy-mm-
	days  int     // that it has
	began int64   // in microseconds
}

func (c *clock) parse(s []byte) (int64, error) {
	const zeros = '0' * lows
	if len(s) < 19 || cap(s) < 28 || s[10] != 'T' && s[10] != 't' && s[10] != ' ' {
		return ParseTimestamp(s)
	}
	if [8]byte(s) != c.month && !c.remember(s) {
		return ParseTimestamp(s)
	}
	day, ok := digits2(s[8], s[9])
	if !ok || day < 1 || day > c.days {
		return ParseTimestamp(s)
	}
	t := s[:28] // what is behind len(s) is looked at, and not used

	// hh:mm:ss, from which 00:00:00 is taken; the first character is the lowest byte.
	const separators = 0x00_00_0a_00_00_0a_00_00 // ':' is '0' + 10
	x := binary.LittleEndian.Uint64(t[11:19]) ^ zeros ^ separators
	if (x|(x+0x06_06_00_06_06_00_06_06))&0xf0_f0_ff_f0_f0_ff_f0_f0 != 0 { // not all digits
		return ParseTimestamp(s)
	}
	x = x*10 + x>>8
	hour, minute, second := x&0xff, x>>24&0xff, x>>48&0xff
	if hour > 23 || minute > 59 || second > 59 {
		return ParseTimestamp(s)
	}
	at := c.began + int64(uint64(day-1)*86_400+hour*3600+minute*60+second)*1_000_000
	s = s[19:]
	if len(s) > 0 && s[0] == '.' {
		x := binary.LittleEndian.Uint64(t[20:28]) ^ zeros
		n := bits.TrailingZeros64((x|(x+0x06*lows))&(0xf0*lows)) >> 3 // digits
		if n == 0 || n == 8 || 1+n > len(s) {
			return ParseTimestamp(t[:19+len(s)])
		}
		x &= 1<<(8*n) - 1 // zeros follow
		x = (x*10 + x>>8) & 0x00ff00ff00ff00ff
		x = (x*100 + x>>16) & 0x0000ffff0000ffff
		x = (x*10_000 + x>>32) & 0xffffffff
		at += int64(x / 100)
		s = s[1+n:]
	}
	if len(s) == 0 || len(s) == 1 && s[0]|0x20 == 'z' {
		return at, nil
	}
	if s[0] != '+' && s[0] != '-' {
		return 0, errTimestampForm
	}
	if len(s) != len("+hh:mm") || s[3] != ':' {
		return 0, errTimestampOffset
	}
	h, ok0 := digits2(s[1], s[2])
	m, ok1 := digits2(s[4], s[5])
	switch {
	case !ok0 || !ok1:
		return 0, errTimestampOffset
	case h > 23 || m > 59:
		return 0, errTimestampRange
	}
	offset := int64(h*60+m) * 60_000_000
	if s[0] == '-' {
		return at + offset, nil
	}
	return at - offset, nil
}

// remember makes the month of s the last one, if it is one.
func (c *clock) remember(s []byte) bool {
	began, err := ParseTimestamp(append(append(make([]byte, 0, 19), s[:8]...), "01T00:00:00"...))
	if err != nil {
		return false
	}
	year, _ := digits2(s[2], s[3])
	century, _ := digits2(s[0], s[1])
	month, _ := digits2(s[5], s[6])
	c.month, c.days, c.began = [8]byte(s), daysIn(century*100+year, month), began
	return true
}
