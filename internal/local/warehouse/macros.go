package warehouse

// macros are BigQuery's functions that DuckDB has not, or has with another
// meaning, for the project's views and for queries typed by hand. Names are
// case-insensitive. What no macro can supply, because DuckDB's parser refuses it:
// EXCEPT(column), SAFE_CAST, backticks, a bare date part as an argument
// (TIMESTAMP_TRUNC(t, MINUTE): write TIMESTAMP_SECONDS(DIV(UNIX_SECONDS(t), 60) * 60)),
// list[OFFSET(n)] (write list[ORDINAL(n + 1)]), TIMESTAMP('…') (write TIMESTAMP '…').
var macros = []string{
	`current_timestamp() AS get_current_timestamp()`,
	`timestamp_sub(t, i) AS t - i`,
	`timestamp_add(t, i) AS t + i`,
	`unix_seconds(t) AS epoch_us(t) // 1000000`,
	`unix_millis(t) AS epoch_us(t) // 1000`,
	`unix_micros(t) AS epoch_us(t)`,
	`timestamp_seconds(s) AS make_timestamptz(s * 1000000)`,
	`timestamp_millis(ms) AS make_timestamptz(ms * 1000)`,
	`timestamp_micros(us) AS make_timestamptz(us)`,
	`div(a, b) AS a // b`,
	`safe_divide(a, b) AS a / nullif(b, 0)`,
	`ieee_divide(a, b) AS a / b`,
	// n + 1 values from the least to the greatest; DuckDB's lists count from 1.
	`approx_quantiles(x, n) AS quantile_disc(x, [i / n::DOUBLE FOR i IN range(n + 1)])`,
	`ordinal(i) AS i`,
	`safe_ordinal(i) AS i`,
	// DuckDB's own json_value answers JSON text: a string keeps its quotes.
	`json_value(j, p) AS json_extract_string(j, p)`,
	`json_query(j, p) AS json_extract(j, p)`,
	`to_json_string(j) AS CAST(j AS VARCHAR)`,
	`byte_length(s) AS octet_length(CAST(s AS BLOB))`,
	`char_length(s) AS length(s)`,
	`to_hex(b) AS lower(hex(b))`,
	// DuckDB's own countif is null where there are no rows.
	`countif(b) AS count(CASE WHEN b THEN 1 END)`,
	`generate_uuid() AS CAST(uuid() AS VARCHAR)`,
	`logical_and(b) AS bool_and(b)`,
	`logical_or(b) AS bool_or(b)`,
}

// typeNames are BigQuery's type names that DuckDB does not know, for CAST.
var typeNames = []string{
	`float64 AS DOUBLE`,
	`bytes AS BLOB`,
}
