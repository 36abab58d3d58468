package batch

import (
	"errors"
	"fmt"
)

// The kinds of Error. A payload that fails with one of them fails for ever: there
// is no use in trying again.
var (
	ErrTruncated = errors.New("truncated") // ends too early
	ErrForged    = errors.New("malformed") // no batch that an Encoder made: damaged, or by someone else
	ErrTooLarge  = errors.New("too large") // declares more than the Limits allow
	ErrVersion   = errors.New("unknown version")
)

// Error is the error of Decode. errors.Is tells its kind.
type Error struct {
	Kind   error  // ErrTruncated, ErrForged, ErrTooLarge or ErrVersion
	Detail string // what was found and, for ErrTooLarge, the limit; no bytes of the payload
}

func (e *Error) Error() string {
	return "batch: " + e.Kind.Error() + " payload: " + e.Detail
}

// Unwrap makes errors.Is(err, ErrTooLarge) work.
func (e *Error) Unwrap() error { return e.Kind }

func failf(kind error, format string, args ...any) error {
	return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}
