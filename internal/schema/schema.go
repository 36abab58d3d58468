// Package schema reads values that were written with an Avro or a Protobuf schema: it compiles the writer's schema
// once, and turns each value into the JSON text of the same event, without a tree between. Of a JSON Schema it
// validates values.
//
//	program, err := schema.Avro(text, references...)
//	var r schema.Reader                           // one per goroutine, reused
//	json, err := r.AppendJSON(nil, program, value, schema.Limits{Bytes: 8 << 20, Depth: 100})
//	var fault *schema.Error                       // the value is not one of that schema
//
// How types stand in JSON is chosen so that a column of the matching type takes each in its default form:
//
//	Avro                                   JSON
//	null, boolean, int, long               null, true or false, number
//	float, double                          number; "NaN", "Infinity", "-Infinity"
//	string, enum, uuid                     string
//	bytes, fixed                           string in base64
//	decimal, big-decimal                   number with all its digits
//	date                                   "2026-01-31"
//	time-millis, -micros                   "23:59:59.123456"
//	timestamp-millis, -micros, -nanos      "2026-01-31T23:59:59.123456Z"
//	local-timestamp-…                      "2026-01-31T23:59:59.123456"
//	duration                               "P1M2DT3.5S", in ISO 8601
//	array, map, record                     array, object, object
//	union                                  the value itself, without its branch's name
//
//	Protobuf                               JSON
//	bool, numbers, float, double           as above
//	string, bytes                          as above
//	enum                                   its name; the number, if the schema does not know it
//	repeated, map, message                 array, object, object
//	google.protobuf.Timestamp              "2026-01-31T23:59:59.123456Z"
//	google.protobuf.Duration               "PT1.5S", in ISO 8601
//	google.protobuf.Struct, Value, ListValue  the JSON that they stand for
//	google.protobuf.…Value                 the value within
//	google.protobuf.FieldMask              a string
//	google.protobuf.Any                    {"@type": …, "value": its bytes in base64}
//
// Members have the names that fields have in the schema. Of Protobuf, a field that is not there is left out; one
// without presence, of which that is its type's zero, is zero if the contract names it. Fields that the schema does not
// know are passed over. A member of a record of Avro that is null is left out. What Avro 1.12 says of types it does not
// know is done: a logical type that is not known, or that a value cannot have (a time of 25 hours), is ignored, and the
// value is that of the type below it.
//
// See https://avro.apache.org/docs/1.12.0/specification/ and https://protobuf.dev/programming-guides/encoding/.
package schema

import (
	"strconv"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/twmb/avro"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Program is a writer's schema, compiled for reading. It is safe for concurrent use.
type Program struct {
	// Name is the full name of the type that values are of; empty: it has none.
	Name string

	avro  *node
	proto *message
	json  *jsonschema.Schema

	// For Fields: what they were compiled of.
	roots      []*avro.SchemaNode // of Avro: those of the references, then the schema's own
	descriptor protoreflect.MessageDescriptor
}

// Limits bound what a value may become.
type Limits struct {
	Bytes int // of JSON
	Depth int // records, arrays and maps within each other
}

// Error says why a value is not one of its schema.
type Error struct {
	Path  string // of the value within the event, such as items[2].price; empty: the event itself
	What  string // completes the sentence that begins with the path, or "the event"
	Limit Limit  // that the value exceeds; Undecodable: none
}

// Limit is what a value that cannot be read exceeds.
type Limit uint8

// The limits, and the two faults that are none.
const (
	Undecodable Limit = iota // the bytes do not fit the schema
	InvalidUTF8              // a string is not valid UTF-8
	TooLarge                 // Limits.Bytes
	TooDeep                  // Limits.Depth
	Invalid                  // of JSON: it is not what the schema says
)

func (e *Error) Error() string {
	if e.Path == "" {
		return "the event " + e.What
	}
	return e.Path + " " + e.What
}

// within puts a step before the path of an error.
func within(err error, name string) error {
	if e, ok := err.(*Error); ok {
		switch {
		case e.Path == "":
			e.Path = name
		case e.Path[0] == '[':
			e.Path = name + e.Path
		default:
			e.Path = name + "." + e.Path
		}
	}
	return err
}

// element puts an index before the path of an error.
func element(err error, index int) error { return within(err, "["+strconv.Itoa(index)+"]") }

// Reader is the memory that reading needs. The zero value is ready to use.
type Reader struct {
	in     []byte // the value
	at     int    // what is read next of it
	out    []byte
	begin  int // of the text in out
	limits Limits
	depth  int
	taker  Taker

	// Of Protobuf, stacks: what was found of the messages that are being read.
	slots   []slot
	found   []found
	entries []entry
}

func (r *Reader) tooDeep() error {
	return &Error{What: "nests objects and arrays deeper than " + strconv.Itoa(r.limits.Depth) + " levels: flatten it",
		Limit: TooDeep}
}

// AppendJSON appends the value as JSON text to dst. The error is an *Error; dst is then returned as it was.
func (r *Reader) AppendJSON(dst []byte, p *Program, value []byte, limits Limits) ([]byte, error) {
	return r.AppendRest(dst, p, value, limits, nil)
}

// AppendRest is AppendJSON without the fields that the program gives to a Taker; nil: nothing is given. The error can
// also be ErrNotTaken.
func (r *Reader) AppendRest(dst []byte, p *Program, value []byte, limits Limits, taker Taker) ([]byte, error) {
	r.in, r.at, r.out, r.begin, r.limits, r.depth, r.taker = value, 0, dst, len(dst), limits, 0, taker
	r.slots, r.found, r.entries = r.slots[:0], r.found[:0], r.entries[:0]
	var err error
	switch {
	case p.proto != nil:
		err = r.protobuf(p.proto, value)
	case p.json != nil:
		err = r.validate(p.json, value)
	default:
		if err = r.avro(p.avro); err == nil && r.at < len(value) {
			err = &Error{What: "has " + strconv.Itoa(len(value)-r.at) + " bytes more than its schema reads"}
		}
	}
	out := r.out
	r.in, r.out, r.taker = nil, nil, nil
	if err != nil {
		return dst, err
	}
	return out, nil
}
