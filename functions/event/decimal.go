package event

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/contract"
)

// How many digits behind the point BigQuery's decimal types have.
const (
	numericScale = 9
	bigScale     = 38
)

// decimal is a number of 256 bits and a sign, the lowest word first; what scale it has is
// known to whoever uses it.
type decimal struct {
	words    [4]uint64
	negative bool
}

func decimalOf(n int64) decimal {
	if n < 0 {
		return decimal{words: [4]uint64{-uint64(n)}, negative: true}
	}
	return decimal{words: [4]uint64{uint64(n)}}
}

// push appends a decimal digit, and reports whether it fitted.
func (d *decimal) push(digit uint64) bool {
	carry := digit
	for i := range d.words {
		hi, lo := bits.Mul64(d.words[i], 10)
		var c uint64
		d.words[i], c = bits.Add64(lo, carry, 0)
		carry = hi + c
	}
	return carry == 0
}

// increment adds one to the absolute value, and reports whether it fitted.
func (d *decimal) increment() bool {
	for i := range d.words {
		d.words[i]++
		if d.words[i] != 0 {
			return true
		}
	}
	return false
}

// rescale takes digits off at the end, and reports whether they were zeros.
func (d decimal) rescale(digits int) (decimal, bool) {
	for range digits {
		rest := uint64(0)
		for i := len(d.words) - 1; i >= 0; i-- {
			d.words[i], rest = bits.Div64(rest, d.words[i], 10)
		}
		if rest != 0 {
			return d, false
		}
	}
	return d, true
}

func (d *decimal) zero() bool { return d.words == [4]uint64{} }

func (d *decimal) compare(e *decimal) int {
	switch {
	case d.zero() && e.zero():
		return 0
	case d.negative != e.negative:
		if d.negative {
			return -1
		}
		return 1
	}
	for i := len(d.words) - 1; i >= 0; i-- {
		if d.words[i] != e.words[i] {
			if d.words[i] < e.words[i] != d.negative {
				return -1
			}
			return 1
		}
	}
	return 0
}

// number is the parts of a number as JSON writes it.
type number struct {
	negative          bool
	digits            []byte // from the first that is not zero on; there may be a point among them
	before            int64  // digits that stand before the point, once the exponent has moved it; may be negative
	significant, tail int    // how many digits there are, without the zeros at the end; and with
}

// splitNumber reads the parts of a number that scanNumber accepted.
func splitNumber(raw []byte) number {
	var n number
	if raw[0] == '-' {
		n.negative, raw = true, raw[1:]
	}
	exponent := int64(0)
	for i, c := range raw {
		if c|0x20 == 'e' {
			// Exponents of more digits than fit mean the same as the largest that do.
			e, err := strconv.ParseInt(string(raw[i+1:]), 10, 32)
			if err != nil {
				e = math.MaxInt32
				if raw[i+1] == '-' {
					e = math.MinInt32
				}
			}
			exponent, raw = e, raw[:i]
			break
		}
	}
	point, started, seen := false, false, 0
	for i, c := range raw {
		switch {
		case c == '.':
			point = true
		case c == '0' && !started:
			if point {
				n.before--
			}
		default:
			if !started {
				started, n.digits = true, raw[i:]
			}
			if !point {
				n.before++
			}
			seen++
			if c != '0' {
				n.significant = seen
			}
		}
	}
	n.tail = seen
	n.before += exponent
	return n
}

// parseDecimal reads a number, times ten to the power of scale. Digits beyond are rounded, half
// away from zero, or a problem.
func parseDecimal(raw []byte, scale int, round bool) (decimal, *problem) {
	n := splitNumber(raw)
	d := decimal{negative: n.negative}
	if n.significant == 0 {
		d.negative = false
		return d, nil
	}
	keep := n.before + int64(scale) // digits
	if keep > 78 {
		return d, problemTooManyDigits
	}
	if keep < int64(n.significant) && !round {
		return d, &problem{contract.CodeOutOfRange,
			"has more than " + strconv.Itoa(scale) +
				" digits behind the point: send fewer, or let the contract round them"}
	}
	i := int64(0)
	up := false
	for _, c := range n.digits {
		if c == '.' {
			continue
		}
		if i >= keep {
			up = i == keep && c >= '5'
			break
		}
		if !d.push(uint64(c - '0')) {
			return d, problemTooManyDigits
		}
		i++
	}
	for ; i < keep; i++ {
		if !d.push(0) {
			return d, problemTooManyDigits
		}
	}
	if up && !d.increment() {
		return d, problemTooManyDigits
	}
	if d.zero() {
		d.negative = false
	}
	return d, nil
}

var problemTooManyDigits = &problem{contract.CodeOutOfRange, "has more digits before the point than its column"}

// The largest absolute values of NUMERIC and BIGNUMERIC: 10^38-1, and 2^255-1 above zero, 2^255 below.
var maxNumeric = decimal{words: [4]uint64{0x098a223fffffffff, 0x4b3b4ca85a86c47a}}

// shortDecimal is the number times 10^9, if it is written in at most nine digits before and
// nine behind the point, as amounts of money are.
func shortDecimal(raw []byte) (v int64, ok bool) {
	negative := len(raw) > 0 && raw[0] == '-'
	if negative {
		raw = raw[1:]
	}
	if len(raw) > 19 {
		return 0, false
	}
	scale, dot := 9, -1
	for i, c := range raw {
		switch {
		case c-'0' <= 9:
			v = v*10 + int64(c-'0')
		case c == '.' && dot < 0 && i <= 9:
			dot = i
		default:
			return 0, false
		}
	}
	if dot < 0 {
		dot = len(raw)
	}
	if fraction := len(raw) - dot - 1; fraction > 0 {
		scale -= fraction
	}
	if dot > 9 || scale < 0 {
		return 0, false
	}
	for range scale {
		v *= 10
	}
	if negative {
		v = -v
	}
	return v, true
}

// appendDecimal appends a NUMERIC or BIGNUMERIC: the number times 10^9 or 10^38, as a
// two's complement of as few bytes as hold it, the lowest first.
func (c *column) appendDecimal(row, raw []byte) ([]byte, *problem) {
	if c.short {
		if v, ok := shortDecimal(raw); ok {
			n := 1
			for n < 8 && v>>(8*n-1) != v>>63 {
				n++
			}
			row = append(protowire.AppendVarint(row, c.tag), byte(n))
			row = binary.LittleEndian.AppendUint64(row, uint64(v))
			return row[:len(row)-8+n], nil
		}
	}
	full := numericScale
	if c.kind == kindBigNumeric {
		full = bigScale
	}
	scale := full
	if c.Precision > 0 {
		scale = c.Scale
	}
	d, p := parseDecimal(raw, scale, c.accept&contract.FormRound != 0)
	if p != nil {
		return row, p
	}
	if c.Precision > 0 {
		if limit := powerOfTen(c.Precision); d.absolute().compare(&limit) >= 0 {
			return row, problemTooManyDigits
		}
		for range full - scale {
			if !d.push(0) {
				return row, problemTooManyDigits
			}
		}
	}
	if c.kind == kindNumeric {
		if d.absolute().compare(&maxNumeric) > 0 {
			return row, problemTooManyDigits
		}
	} else if top := d.words[3] >> 63; top != 0 &&
		(!d.negative || d.words != [4]uint64{0, 0, 0, 1 << 63}) {
		return row, problemTooManyDigits
	}
	if c.min != nil || c.max != nil {
		if p := c.within(compareDecimal, &bound{decimal: d}); p != nil {
			return row, p
		}
	}
	w := d.words
	if d.negative { // two's complement
		carry := uint64(1)
		for i := range w {
			w[i], carry = bits.Add64(^w[i], 0, carry)
		}
	}
	var b [32]byte
	for i, word := range w {
		binary.LittleEndian.PutUint64(b[8*i:], word)
	}
	n := len(b)
	for n > 1 && (b[n-1] == 0 && b[n-2] < 0x80 || b[n-1] == 0xff && b[n-2] >= 0x80) {
		n--
	}
	row = protowire.AppendVarint(row, c.tag)
	return protowire.AppendBytes(row, b[:n]), nil
}

func (d decimal) absolute() *decimal {
	d.negative = false
	return &d
}

func powerOfTen(n int) decimal {
	d := decimalOf(1)
	for range n {
		if !d.push(0) {
			return decimal{words: [4]uint64{math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64}}
		}
	}
	return d
}

// parseScaled reads a number times ten to the power of scale, rounded down. exact says
// whether that lost nothing, ok whether it fits.
func parseScaled(raw []byte, scale int) (v int64, exact, ok bool) {
	n := splitNumber(raw)
	exact = n.before+int64(scale) >= int64(n.significant)
	if n.significant == 0 {
		return 0, true, true
	}
	keep := n.before + int64(scale)
	if keep > 18 {
		return 0, exact, false
	}
	i := int64(0)
	for _, c := range n.digits {
		if c == '.' {
			continue
		}
		if i >= keep {
			break
		}
		v = v*10 + int64(c-'0')
		i++
	}
	for ; i < keep; i++ {
		v *= 10
	}
	if n.negative {
		v = -v
		if !exact {
			v--
		}
	}
	return v, exact, true
}

// finite reports whether FLOAT64 can hold the number raw, as BigQuery's JSON needs.
func finite(raw []byte) bool {
	_, err := strconv.ParseFloat(string(raw), 64)
	return err == nil
}
