package warehouse_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"sluice/functions/event"
	"sluice/functions/warehouse"
	"sluice/internal/contract"
	embedded "sluice/internal/local/warehouse"
)

const everyType = `
contract: 1
name: every_type
topics: t
rest: drop
table: {partition_by: {column: d, every: month}}
columns:
- {name: s, type: STRING(5)}
- {name: b, type: BYTES}
- {name: i, type: INT64}
- {name: f, type: FLOAT64}
- {name: n, type: NUMERIC}
- {name: n2, type: 'NUMERIC(5, 2)'}
- {name: bn, type: BIGNUMERIC, accept: [number, string]}
- {name: o, type: BOOL}
- {name: d, type: DATE}
- {name: t, type: TIME}
- {name: dt, type: DATETIME}
- {name: ts, type: TIMESTAMP}
- {name: j, type: JSON}
- {name: g, type: GEOGRAPHY}
- {name: iv, type: INTERVAL, accept: [iso8601, sql]}
- {name: rd, type: RANGE<DATE>}
- {name: rt, type: RANGE<TIMESTAMP>}
- {name: tags, type: STRING, mode: REPEATED}
- {name: days, type: DATE, mode: REPEATED}
- name: items
  type: RECORD
  mode: REPEATED
  columns:
  - {name: sku, type: STRING, mode: REQUIRED}
  - {name: price, type: NUMERIC}
  - {name: raw, type: JSON}
  - {name: at, type: TIMESTAMP}
  - {name: sizes, type: INT64, mode: REPEATED}
  - {name: box, type: RECORD, columns: [{name: w, type: FLOAT64}, {name: valid, type: RANGE<DATETIME>}]}
`

// Protects the claim that a row of every type, nested and repeated ones too, arrives with the
// value that the event has: by the decoder, the real client and the warehouse's own checks.
func TestEveryType(t *testing.T) {
	c, err := contract.Read("every_type.yaml", []byte(everyType))
	check(t, err)
	w, err := embedded.Start(embedded.Config{Tables: []*contract.Table{c.Table},
		Partitions: map[string]embedded.Partition{
			"every_type": {Column: "d", Back: 100 * 365 * 24 * time.Hour, Ahead: 365 * 24 * time.Hour},
		}})
	check(t, err)
	defer w.Close()
	a := newAppender(t, w.Addr(), c.Table, warehouse.AppenderConfig{Table: w.TableName("every_type")})
	for _, decoder := range []string{event.Fast, event.Strict} {
		d, err := event.New(c, decoder, time.Now)
		check(t, err)
		var rows [][]byte
		for _, text := range []string{
			`{"s":"héllo","b":"AQID","i":-7,"f":1.5,"n":-99999999999999999999999999999.999999999,"n2":-999.99,
			  "bn":"-578960446186580977117854925043439539266.34992332820282019728792003956564819968","o":true,"d":"2026-02-28","t":"23:59:59.999999",
			  "dt":"0001-01-01T00:00:00","ts":"9999-12-31T23:59:59.999999Z","j":{"a":[1,{"b":null}]},"g":"POINT(1 2)","iv":"P1Y2M3DT4H5M6.5S",
			  "rd":{"start":"2026-01-01","end":null},"rt":{"start":null,"end":"2026-01-01T00:00:00Z"},"tags":["a","b"],"days":["2026-01-01"],
			  "items":[{"sku":"x","price":12.50,"raw":[1],"at":"2026-01-01T00:00:00Z","sizes":[1,2],"box":{"w":0.5,"valid":{"start":"2026-01-01T00:00:00","end":"2026-01-02T00:00:00"}}},{"sku":"y"}]}`,
			`{}`,
			`{"n":0,"bn":0.1,"iv":"-0-1 -2 -0:0:0.000001"}`,
		} {
			row, err := d.AppendRow(nil, []byte(text), event.Meta{Offset: -1})
			check(t, err)
			rows = append(rows, row)
		}
		refused, err := a.Write(t.Context(), rows)
		if err != nil || len(refused) > 0 {
			t.Fatalf("%s: %v, %v", decoder, refused, err)
		}
		_, got, err := embedded.Answer(context.Background(), w.DB(),
			"SELECT s, b, i, f, n, n2, bn, o, d, t, dt, ts, j, g, iv, rd, rt, tags, days, items FROM every_type")
		check(t, err)
		want := [][]any{
			{"héllo", "\x01\x02\x03", int64(-7), 1.5, "-99999999999999999999999999999.999999999", "-999.99",
				"-578960446186580977117854925043439539266.34992332820282019728792003956564819968", true, "2026-02-28", "23:59:59.999999",
				"0001-01-01 00:00:00", "9999-12-31 23:59:59.999999 UTC", `{"a":[1,{"b":null}]}`, "POINT(1 2)", "1 year 2 months 3 days 04:05:06.5",
				`{"start":"2026-01-01","end":null}`, `{"start":null,"end":"2026-01-01 00:00:00+00"}`, `["a","b"]`, `["2026-01-01"]`,
				`[{"sku":"x","price":12.500000000,"raw":[1],"at":"2026-01-01 00:00:00+00","sizes":[1,2],"box":{"w":0.5,"valid":{"start":"2026-01-01 00:00:00","end":"2026-01-02 00:00:00"}}},` +
					`{"sku":"y","price":null,"raw":null,"at":null,"sizes":[],"box":null}]`},
			{nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, `[]`, `[]`, `[]`},
			{nil, nil, nil, nil, "0", nil, "0.1", nil, nil, nil, nil, nil, nil, nil, "-1 month -2 days -00:00:00.000001", nil, nil, `[]`, `[]`, `[]`},
		}
		for i := range want {
			for k := range want[i] {
				if !reflect.DeepEqual(got[i][k], want[i][k]) {
					t.Errorf("%s: row %d, column %d: %v (%[4]T), want %v (%[5]T)", decoder, i, k, got[i][k], want[i][k])
				}
			}
		}
		if _, err := w.DB().Exec("DELETE FROM every_type"); err != nil {
			t.Fatal(err)
		}
	}
}
