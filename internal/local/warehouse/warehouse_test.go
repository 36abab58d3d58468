package warehouse_test

import (
	"context"
	"testing"

	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/descriptorpb"

	"sluice/internal/contract"
	"sluice/internal/local/warehouse"
)

func start(t *testing.T, c warehouse.Config) *warehouse.Server {
	t.Helper()
	if c.Tables == nil {
		c.Tables = []*contract.Table{contract.FactEvents(), contract.EventsDLQ()}
	}
	w, err := warehouse.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

// dial makes the client that the product uses.
func dial(t testing.TB, w *warehouse.Server) *storage.BigQueryWriteClient {
	t.Helper()
	client, err := storage.NewBigQueryWriteClient(context.Background(),
		option.WithEndpoint(w.Addr()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// open opens an append stream.
func open(t testing.TB, client *storage.BigQueryWriteClient) storagepb.BigQueryWrite_AppendRowsClient {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	stream, err := client.AppendRows(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// request is one append to the default stream of a table.
func request(w *warehouse.Server, table string, d *descriptorpb.DescriptorProto,
	rows ...[]byte) *storagepb.AppendRowsRequest {
	return &storagepb.AppendRowsRequest{
		WriteStream: w.TableName(table) + "/streams/_default",
		Rows: &storagepb.AppendRowsRequest_ProtoRows{ProtoRows: &storagepb.AppendRowsRequest_ProtoData{
			WriterSchema: &storagepb.ProtoSchema{ProtoDescriptor: d},
			Rows:         &storagepb.ProtoRows{SerializedRows: rows},
		}},
	}
}

// exchange sends a request and waits for its answer.
func exchange(t *testing.T, s storagepb.BigQueryWrite_AppendRowsClient,
	r *storagepb.AppendRowsRequest) *storagepb.AppendRowsResponse {
	t.Helper()
	if err := s.Send(r); err != nil {
		t.Fatal(err)
	}
	answer, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// values are a row's columns by name: string, []byte, int64, float64 or bool.
type values map[string]any

// encode encodes a row in the order of the table's columns.
func encode(t *contract.Table, v values) []byte {
	var b []byte
	for _, c := range t.Columns {
		value, ok := v[c.Name]
		if !ok {
			continue
		}
		b = protowire.AppendTag(b, c.Number, c.WireType())
		switch value := value.(type) {
		case string:
			b = protowire.AppendString(b, value)
		case []byte:
			b = protowire.AppendBytes(b, value)
		case int64:
			b = protowire.AppendVarint(b, uint64(value))
		case bool:
			b = protowire.AppendVarint(b, protowire.EncodeBool(value))
		default:
			panic("unknown kind of value")
		}
	}
	return b
}
