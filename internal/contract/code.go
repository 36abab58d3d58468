package contract

// Code says in one stable word why a record cannot become a row. Dashboards,
// queries and replays tell rejections apart by it.
type Code string

// The codes of events that cannot become a row.
const (
	CodeInvalidJSON   Code = "invalid_json" // no JSON object, or null
	CodeInvalidUTF8   Code = "invalid_utf8"
	CodeDuplicateName Code = "duplicate_name" // of two members of one object, at any depth
	CodeTooDeep       Code = "too_deep"       // Config.MaxDepth
	CodeTooLarge      Code = "too_large"      // Config.MaxBytes

	CodeMissingField        Code = "missing_field" // absent or null
	CodeEmptyField          Code = "empty_field"   // a required string
	CodeWrongType           Code = "wrong_type"
	CodeOutOfRange          Code = "out_of_range" // a number that its column cannot hold
	CodeInvalidBase64       Code = "invalid_base64"
	CodeInvalidEventType    Code = "invalid_event_type"     // Config.Types
	CodeInvalidTimestamp    Code = "invalid_timestamp"      // ParseTimestamp
	CodeTimestampOutOfRange Code = "timestamp_out_of_range" // Config.MaxAge, Config.MaxAhead; the years 1 to 9999
)

// The codes that contracts of one's own add.
const (
	CodeNotAllowed    Code = "not_allowed"    // a value that is not among those that the contract allows
	CodeInvalidValue  Code = "invalid_value"  // text that is no value of its column's type, such as a DATE
	CodeInvalidLength Code = "invalid_length" // too short or too long
	CodeUnknownMember Code = "unknown_member" // a member that no column takes, where the contract refuses those
)

// The codes of values that were written with a schema.
const (
	CodeUnknownSchema   Code = "unknown_schema"   // the registry does not know the schema that the value names
	CodeSchemaViolation Code = "schema_violation" // the event is not what its JSON Schema says
	// the value is not one of its schema, or the contract expects another framing
	CodeUndecodableValue Code = "undecodable_value"
)

// The codes that others give to records.
const (
	CodeNoContract         Code = "no_contract"                 // no contract takes the record's topic
	CodeRowRejected        Code = "row_rejected"                // BigQuery refused the row
	CodeAttemptsExhausted  Code = "delivery_attempts_exhausted" // Pub/Sub gave up
	CodeUndecodablePayload Code = "undecodable_payload"         // a packed batch that is damaged
	CodeDecoderFailed      Code = "decoder_failed"              // a fault of Sluice
)
