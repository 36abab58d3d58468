package warehouse_test

import (
	"encoding/json"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"sluice/functions/warehouse"
	"sluice/internal/contract"
)

// Protects the way in which a column is added: to the table, then to the service.
// Streams that are open go on with the schema that they began with, and neither side
// is started again.
func TestColumnIsAddedToTheTable(t *testing.T) {
	w, a := startWarehouse(t, warehouse.AppenderConfig{})
	check(t, a.Append(t.Context(), rows(t, "before")))
	newer := withColumn(t, "campaign")
	column, _ := newer.Column("campaign")
	check(t, w.AddColumn(t.Context(), "fact_events", column))
	check(t, a.Append(t.Context(), rows(t, "after")))

	b := newAppender(t, w.Addr(), newer, warehouse.AppenderConfig{Table: w.TableName("fact_events")})
	check(t, b.Append(t.Context(), [][]byte{campaign(t, newer, "new")}))
	check(t, a.Append(t.Context(), rows(t, "old, beside new")))
	var n int
	check(t, w.DB().QueryRow("SELECT COUNT(*) FROM fact_events WHERE campaign IS NULL OR event_id = 'new' AND campaign = 'summer'").Scan(&n))
	if n != 4 {
		t.Errorf("%d rows, want 4", n)
	}
}

// Protects good data from the wrong order: a service that knows a column before the
// table does dead-letters nothing, and goes on by itself when the table has it.
func TestColumnIsAddedToTheServiceFirst(t *testing.T) {
	w, _ := startWarehouse(t, warehouse.AppenderConfig{})
	newer := withColumn(t, "campaign")
	a := newAppender(t, w.Addr(), newer, warehouse.AppenderConfig{Table: w.TableName("fact_events")})
	for range 2 {
		rejected, err := a.Write(t.Context(), [][]byte{campaign(t, newer, "a"), campaign(t, newer, "b")})
		if err == nil || len(rejected) > 0 {
			t.Fatalf("rejected %v, error %v: want an error", rejected, err)
		}
	}
	column, _ := newer.Column("campaign")
	check(t, w.AddColumn(t.Context(), "fact_events", column))
	rejected, err := a.Write(t.Context(), [][]byte{campaign(t, newer, "a"), campaign(t, newer, "b")})
	if err != nil || len(rejected) > 0 {
		t.Fatalf("rejected %v, error %v", rejected, err)
	}
	if n := landed(t, w); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

// Protects the same way on from a stream that never learns of the column: BigQuery
// reads the schema in the first request only.
func TestRefusedSchemaIsSentAgain(t *testing.T) {
	for _, storage := range []storagepb.StorageError_StorageErrorCode{
		storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS,
		storagepb.StorageError_STORAGE_ERROR_CODE_UNSPECIFIED, // a type that does not fit
	} {
		t.Run(storage.String(), func(t *testing.T) {
			refusal, err := status.New(codes.InvalidArgument,
				"The schema does not fit").WithDetails(&storagepb.StorageError{Code: storage})
			check(t, err)
			_, addr := startScript(t, func(n int, s storagepb.BigQueryWrite_AppendRowsServer) error {
				for {
					if _, err := s.Recv(); err != nil {
						return nil
					}
					if n > 1 {
						check(t, ok(s))
						continue
					}
					check(t, s.Send(&storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_Error{Error: refusal.Proto()}}))
				}
			})
			a := newAppender(t, addr, contract.FactEvents(), warehouse.AppenderConfig{Table: scriptedTable})
			if _, err := a.Write(t.Context(), rows(t, "a")); err == nil {
				t.Fatal("want a refusal")
			}
			rejected, err := a.Write(t.Context(), rows(t, "a"))
			if err != nil || len(rejected) > 0 {
				t.Errorf("rejected %v, error %v", rejected, err)
			}
		})
	}
}

// Protects the instance from streams that nobody uses: one that is not used again is
// ended, also if its server would never hang up.
func TestRetiredStreamEnds(t *testing.T) {
	ended := make(chan struct{})
	_, addr := startScript(t, func(n int, s storagepb.BigQueryWrite_AppendRowsServer) error {
		if _, err := s.Recv(); err != nil {
			return nil
		}
		check(t, s.Send(&storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_Error{Error: status.New(codes.NotFound, "no table").Proto()}}))
		<-s.Context().Done()
		close(ended)
		return nil
	})
	a := newAppender(t, addr, contract.FactEvents(), warehouse.AppenderConfig{Table: scriptedTable,
		Timeout: 100 * time.Millisecond})
	if err := a.Append(t.Context(), rows(t, "a")); err == nil {
		t.Fatal("want a refusal")
	}
	<-ended
}

// Protects good data from a table that is replaced while streams are open.
func TestTableIsDroppedAndCreated(t *testing.T) {
	w, a := startWarehouse(t, warehouse.AppenderConfig{})
	check(t, a.Append(t.Context(), rows(t, "before")))
	check(t, w.DropTable(t.Context(), "fact_events"))
	if rejected, err := a.Write(t.Context(), rows(t, "a", "b")); err == nil || len(rejected) > 0 {
		t.Errorf("rejected %v, error %v: want an error", rejected, err)
	}
	check(t, w.CreateTable(t.Context(), contract.FactEvents()))
	_, err := a.Write(t.Context(), rows(t, "a", "b"))
	check(t, err)
	if n := landed(t, w); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

// withColumn is fact_events with a STRING column more.
// Protects good events from a table that somebody has replaced by one that does not fit, under a
// stream that has taken rows for long: nothing is rejected, and all lands when it is repaired.
func TestTableIsReplaced(t *testing.T) {
	w, a := startWarehouse(t, warehouse.AppenderConfig{})
	check(t, a.Append(t.Context(), rows(t, "before")))
	check(t, w.DropTable(t.Context(), "fact_events"))
	other := contract.FactEvents()
	for i := range other.Columns {
		if other.Columns[i].Name == "user_id" {
			other.Columns[i].Type = contract.Int64
		}
	}
	check(t, w.CreateTable(t.Context(), other))
	for range 3 {
		if rejected, err := a.Write(t.Context(), rows(t, "a", "b")); err == nil || len(rejected) > 0 {
			t.Errorf("rejected %v, error %v: want an error", rejected, err)
		}
		if rejected, err := a.Write(t.Context(), rows(t, "c")); err == nil || len(rejected) > 0 {
			t.Errorf("rejected %v, error %v: want an error", rejected, err)
		}
	}
	check(t, w.DropTable(t.Context(), "fact_events"))
	check(t, w.CreateTable(t.Context(), contract.FactEvents()))
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		rejected, err := a.Write(t.Context(), rows(t, "a", "b"))
		if err == nil && len(rejected) == 0 {
			break
		}
		if len(rejected) > 0 || time.Now().After(end) {
			t.Fatalf("rejected %v, error %v", rejected, err)
		}
	}
}

func withColumn(t *testing.T, name string) *contract.Table {
	t.Helper()
	var columns []map[string]string
	check(t, json.Unmarshal(contract.File("fact_events"), &columns))
	columns = append(columns, map[string]string{"name": name, "type": "STRING", "mode": "NULLABLE"})
	text, err := json.Marshal(columns)
	check(t, err)
	table, err := contract.Parse("fact_events", text)
	check(t, err)
	return table
}

// campaign is a row that fills the new column.
func campaign(t *testing.T, table *contract.Table, id string) []byte {
	t.Helper()
	column, _ := table.Column("campaign")
	return protowire.AppendString(protowire.AppendTag(row(t, id), column.Number, protowire.BytesType), "summer")
}
