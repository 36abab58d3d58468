package contract

import (
	"os"
	"path/filepath"
	"regexp"
	"time"

	"sluice/internal/schema"
)

// Contract is what one stream's events must be and how each becomes a row: one file of the
// contract language, read, checked and with every name resolved. Read makes one; the
// decoder, the table, the SQL and the tools are built from it.
type Contract struct {
	Name        string // of the stream: the label "contract" of logs, metrics and dead letters
	Description string
	File        string // where it was read from, for messages; empty if it is built in
	Text        string // of the file; empty if it is built in

	Format   Format    // of the events' values
	Registry *Registry // of the schemas that they are written with; nil: none is asked
	// the header that names a record's schema; a record without it has a prefix. Empty: all have
	IDHeader string
	Schema   SchemaFile      // that lies beside the contract
	Writer   *schema.Program // made of it: what all events are written with, unless they are Framed; nil: there is none
	// Versions are the schemas that events name by these ids, if there is no Registry.
	Versions map[string]*schema.Program

	Topics  []string       // the Kafka topics it takes, by name
	Pattern *regexp.Regexp // or those whose whole name matches; nil: none
	Bare    bool           // it also takes events that were published to Pub/Sub without a topic

	Table     *Table
	Partition Partition
	Cluster   []string // columns of the table, at most four

	ID        []string // the columns that identify an event: copies of one event share them
	Time      string   // the column that says when the event happened; empty: none does
	EventType string   // the column whose allowed values are the event's type; empty: none is

	// Fields say what fills the table's columns: Fields[i] belongs to Table.Columns[i].
	Fields []Field
	// Rest says what becomes of members that no field takes.
	Rest Rest
	// Sections are the JSON columns that take what is left of one object only.
	Sections []Section

	Drop   []Condition // an event that meets any is left out
	Sample *Sample     // nil: every event is kept

	MaxBytes int // of an event
	MaxDepth int // objects and arrays within each other, the event itself counted
}

// SchemaFile is a schema that lies beside a contract.
type SchemaFile struct {
	Name    string            // of the file, within the contract's folder; empty: there is none
	Message string            // of a Protobuf schema: the full name of the events' message
	IDs     map[string]string // the files of versions, by the ids that events name them by
	Files   map[string]string // its text and those of the files that it imports, by their names
}

// Write writes the schema's files into a folder.
func (s *SchemaFile) Write(folder string) error {
	for name, text := range s.Files {
		file := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Format is how an event's value is written.
type Format string

// The formats. JSONSchema is JSON behind the prefix that the serializers of schema registries for JSON Schema write:
// Confluent's five bytes, or AWS Glue's eighteen; it is validated by the schema, if the contract says where that is.
// Avro and Protobuf are read with the schema that such a prefix names, or with Contract.Writer.
const (
	FormatJSON       Format = "json"
	FormatJSONSchema Format = "json_schema"
	FormatAvro       Format = "avro"
	FormatProtobuf   Format = "protobuf"
)

// Binary reports whether events are written with a schema, and are no JSON.
func (f Format) Binary() bool { return f == FormatAvro || f == FormatProtobuf }

// Framed reports whether events name the schema that they were written with.
func (c *Contract) Framed() bool { return c.Registry != nil || len(c.Versions) > 0 }

// Written reports whether a schema is needed to read, or to validate, the contract's events.
func (c *Contract) Written() bool {
	return c.Format.Binary() || c.Format == FormatJSONSchema && (c.Registry != nil || c.Writer != nil)
}

// Registry is the schema registry that knows the schemas of a contract's events.
type Registry struct {
	URL  string
	Auth Auth
	// The schema that the contract was made for, which messages tell; empty: it does not say.
	Subject string
	Version int
}

// Auth is how a schema registry knows who asks. Credentials come from the environment: see package registry.
type Auth string

// The kinds of authentication.
const (
	AuthNone   Auth = "none"
	AuthBasic  Auth = "basic"
	AuthBearer Auth = "bearer"
	AuthMTLS   Auth = "mtls"
	AuthGoogle Auth = "google" // application default credentials: Google's managed Schema Registry
)

// Plain returns the contract for events that lie in a file, a line each: without what a serializer writes before them.
func (c *Contract) Plain() *Contract {
	plain := *c
	plain.Format, plain.Registry, plain.IDHeader, plain.Writer, plain.Versions = FormatJSON, nil, "", nil, nil
	return &plain
}

// What a contract's limits can be at most: a request of the Storage Write API must stay
// under 10 MB, and BigQuery's JSON nests 500 deep.
const (
	MaxBytes = 8 << 20
	MaxDepth = 500
)

// Partition says by what a table is partitioned. The zero value: it is not.
type Partition struct {
	Column string
	Every  Granularity
	Expire time.Duration // after which BigQuery deletes a partition; 0: never
}

// Granularity is the length of time that one partition holds.
type Granularity string

// The granularities that BigQuery has.
const (
	Hour  Granularity = "hour"
	Day   Granularity = "day"
	Month Granularity = "month"
	Year  Granularity = "year"
)

// Field says where one column's value comes from and what it must be.
type Field struct {
	Source Source
	// Paths are where the value stands in the event, for FromEvent. With several, the first
	// at which there is a value (not null; with SkipEmpty, not an empty string either) wins.
	// Within a RECORD they begin at the record's object.
	Paths  []Path
	Header string // for FromHeader; of several headers of that name the last one counts
	// Constant is the value for FromConstant, Default the one where the source has none: as
	// the text that the column's type accepts as a JSON string ("true" for BOOL, "12.50" for
	// NUMERIC), nil: none.
	Constant, Default *string

	Accept  Form     // the forms that the value may have
	Layouts []Layout // for FormPattern: the patterns of time that are tried, in this order

	NotEmpty     bool // an empty string is refused with empty_field
	SkipEmpty    bool // an empty string counts as absent
	Allowed      []string
	MinLength    int // characters of a STRING, bytes of BYTES, elements of a REPEATED column
	MaxLength    int // 0: no limit but the column's own
	Range        *Range
	RequiredWhen []Condition // it must be there if any of these is met

	Fields []Field // of a RECORD: Fields[i] belongs to Column.Columns[i]
	Rest   Rest    // of a RECORD

	Line int // of Contract.File; 0: none
}

// Source says what kind of place a column's value comes from.
type Source uint8

// The sources of a value.
const (
	FromEvent      Source = iota // members of the event: Field.Paths
	FromHeader                   // a header of the Kafka record
	FromKafkaKey                 // the Kafka record's key
	FromKafkaTopic               // null if the event did not come through Kafka, as the next three
	FromKafkaPartition
	FromKafkaOffset
	FromKafkaTimestamp
	FromIngestionTime // when the row was made
	FromReplayID      // null if the event was not replayed
	FromConstant
	FromRest    // the members that no field takes: a JSON column, see Rest
	FromSection // those of one object: a JSON column, see Section
)

// Path leads from an object to a value within it.
type Path []Step

// Step is one step of a path: to the member of that name, to the element of that index of
// an array, or to the first element of an array that is an object whose member Key is the
// string Value.
type Step struct {
	Kind  StepKind
	Name  string // for Member; for Select, the name of the member that is compared
	Index int    // for Index
	Value string // for Select
}

// StepKind is what a step of a path does.
type StepKind uint8

// The kinds of steps. Index and Select only read: the array stays whole where the members
// that no field takes go.
const (
	Member StepKind = iota
	Index
	Select
)

// Rest says what becomes of the members of an object that no field takes.
type Rest uint8

// What becomes of them.
const (
	// RestInherit is for a RECORD: as the object that it stands in.
	RestInherit Rest = iota
	// RestColumn keeps them in a JSON column, each at its place: of the event, the one of
	// FromRest; of a RECORD, one of its own columns.
	RestColumn
	RestDrop
	RestReject // the event is rejected with unknown_member
)

// Section is a JSON column that takes those members of the object at Path that no field
// takes. They do not go where the rest of the event goes.
type Section struct {
	Column int // index of Contract.Fields
	Path   Path
}

// Condition is met if the value of a top-level column, in the form that its type has as
// text, is among Values.
type Condition struct {
	Column int // index of Contract.Fields: a STRING, INT64 or BOOL that is not REPEATED
	Values []string
}

// Sample keeps a share of the events: those for which a hash of a column's value, which
// is the same in every program and for ever, is in the lower part of its range. Events
// without the value are kept.
type Sample struct {
	Column int     // index of Contract.Fields
	Keep   float64 // above 0, below 1
}

// Range bounds a value. Nil pointers are no bound. Numbers are decimal text; times are either
// relative to the time of ingestion (Oldest, Newest) or absolute.
type Range struct {
	Min, Max       *string       // numbers, both inclusive, or times in the column's default form
	Oldest, Newest time.Duration // of TIMESTAMP, DATE, DATETIME; 0: no bound
}

// Form is a set of forms in which a JSON value may stand for a column's value.
type Form uint32

// The forms. Each type has a default, which is the first of its kind here.
const (
	FormString       Form = 1 << iota // a JSON string for STRING; for numbers and booleans their text within a string
	FormNumber                        // a JSON number; for STRING as its text, for BOOL 0 or 1
	FormBoolean                       // true or false; for STRING as its text
	FormBase64                        // BYTES: standard alphabet, padded
	FormBase64URL                     // BYTES: URL alphabet, padding optional
	FormHex                           // BYTES
	FormISO                           // DATE 2006-01-02, TIME 15:04:05, DATETIME with both, INTERVAL P1Y2M3DT4H5M6S
	FormRFC3339                       // TIMESTAMP: see event.ParseTimestamp
	FormISO8601                       // TIMESTAMP: RFC 3339 and offsets written +0100 or +01
	FormEpochDays                     // DATE: days since 1970-01-01, a number or a string of digits; so the next three
	FormEpochSeconds                  // TIMESTAMP: with a fraction
	FormEpochMillis                   // TIMESTAMP
	FormEpochMicros                   // TIMESTAMP
	FormPattern                       // TIMESTAMP, DATETIME, DATE, TIME: Field.Layouts
	FormWKT                           // GEOGRAPHY: well-known text
	FormGeoJSON                       // GEOGRAPHY: a GeoJSON object, or the same as a string
	FormSQL                           // INTERVAL "1-2 3 4:5:6", RANGE "[start, end)"
	FormObject                        // RANGE: {"start": …, "end": …}
	FormSingle                        // REPEATED: one value stands for an array of one
	FormSkipNull                      // REPEATED: null elements are left out
	// REPEATED RECORD: an object stands for an array of {"key": …, "value": …}, one a member
	FormEntries
	FormRound      // NUMERIC, BIGNUMERIC: digits beyond the scale are rounded half away from zero
	FormJSONText   // RECORD, JSON: a string that holds JSON text is read as that JSON
	FormEmptyArray // RECORD: an empty array stands for null
)

// Layout is a compiled pattern of time in the notation of strptime, such as %Y-%m-%d %H:%M:%S.
type Layout struct {
	Text string // as written
	Go   string // as package time writes it
}
