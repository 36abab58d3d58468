package warehouse_test

import (
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"

	"sluice/functions/warehouse"
	"sluice/internal/contract"
)

// Protects rows from answers that do not acknowledge them: only a result of this table's stream
// does, and every other answer leads to another try.
func TestWhatIsNoAcknowledgement(t *testing.T) {
	result := &storagepb.AppendRowsResponse_AppendResult_{AppendResult: &storagepb.AppendRowsResponse_AppendResult{}}
	schema := &storagepb.TableSchema{Fields: []*storagepb.TableFieldSchema{{Name: "a"}}}
	for name, test := range map[string]struct {
		answers []*storagepb.AppendRowsResponse // to the first request
		ok      bool
	}{
		"a result":                       {[]*storagepb.AppendRowsResponse{{Response: result}}, true},
		"a result that names its stream": {[]*storagepb.AppendRowsResponse{{Response: result, WriteStream: "projects/12345/datasets/d/tables/t/streams/_default"}}, true},
		"a result with a schema":         {[]*storagepb.AppendRowsResponse{{Response: result, UpdatedSchema: schema}}, true},
		"a schema, then a result":        {[]*storagepb.AppendRowsResponse{{UpdatedSchema: schema}, {Response: result}}, true},
		"nothing":                        {[]*storagepb.AppendRowsResponse{{}}, false},
		"a schema only":                  {[]*storagepb.AppendRowsResponse{{UpdatedSchema: schema}}, false},
		"another table's result":         {[]*storagepb.AppendRowsResponse{{Response: result, WriteStream: "projects/p/datasets/d/tables/t2/streams/_default"}}, false},
		"another dataset's result":       {[]*storagepb.AppendRowsResponse{{Response: result, WriteStream: "projects/p/datasets/e/tables/t/streams/_default"}}, false},
		"an answer too many":             {[]*storagepb.AppendRowsResponse{{Response: result}, {Response: result}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, addr := startScript(t, func(_ int, s storagepb.BigQueryWrite_AppendRowsServer) error {
				if _, err := s.Recv(); err != nil {
					return nil
				}
				for _, answer := range test.answers {
					if err := s.Send(answer); err != nil {
						return err
					}
				}
				<-s.Context().Done()
				return nil
			})
			a := newAppender(t, addr, contract.FactEvents(), warehouse.AppenderConfig{Table: scriptedTable,
				Timeout: 300 * time.Millisecond})
			err := a.Append(t.Context(), rows(t, "a"))
			if (err == nil) != test.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}
