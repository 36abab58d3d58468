package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/pierrec/lz4/v4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sluice/internal/batch"
)

// sink is Pub/Sub and BigQuery as far as whoever writes to them can tell: they answer at once and keep nothing but
// counts. It runs in this program, so that no peer is charged for it.
type sink struct {
	pubsubpb.UnimplementedPublisherServer
	storagepb.UnimplementedBigQueryWriteServer

	grpc *grpc.Server // in plain text
	tls  *grpc.Server // the same, for who speaks nothing else
	rest *http.Server

	Addr, TLSAddr string // host:port
	RESTAddr      string // host:port of insertAll, and of OAuth tokens at /token
	Certificate   []byte // PEM, that TLSAddr shows

	mu sync.Mutex

	count    func(data []byte) (int, error) // of a message's events; nil: a message is one
	events   atomic.Int64
	requests atomic.Int64 // messages, or requests to BigQuery
	bytes    atomic.Int64
	begun    chan struct{} // closed by the first event

	timed atomic.Bool // rows are timed
	ages  []float64   // of rows at their arrival, by Kafka's timestamps, seconds
}

func startSink() (*sink, error) {
	s := &sink{begun: make(chan struct{})}
	certificate, err := s.certify()
	if err != nil {
		return nil, err
	}
	options := []grpc.ServerOption{grpc.MaxRecvMsgSize(64 << 20)}
	s.grpc = grpc.NewServer(options...)
	s.tls = grpc.NewServer(append(options, grpc.Creds(credentials.NewServerTLSFromCert(certificate)))...)
	for server, to := range map[*grpc.Server]*string{s.grpc: &s.Addr, s.tls: &s.TLSAddr} {
		pubsubpb.RegisterPublisherServer(server, s)
		storagepb.RegisterBigQueryWriteServer(server, s)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		*to = l.Addr().String()
		go server.Serve(l)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.RESTAddr = l.Addr().String()
	s.rest = &http.Server{Handler: http.HandlerFunc(s.serveREST)}
	go s.rest.Serve(l)
	return s, nil
}

func (s *sink) Close() {
	s.grpc.Stop()
	s.tls.Stop()
	s.rest.Close()
}

// certify makes a certificate for 127.0.0.1 and localhost.
func (s *sink) certify() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		return nil, err
	}
	s.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// reset forgets the counts, while nobody writes; count tells how many events a message has, nil is one.
func (s *sink) reset(count func(data []byte) (int, error)) {
	s.events.Store(0)
	s.requests.Store(0)
	s.bytes.Store(0)
	s.mu.Lock()
	s.begun, s.count = make(chan struct{}), count
	s.mu.Unlock()
}

// first is closed by the first event since reset.
func (s *sink) first() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun
}

// came counts events that came in requests of so many bytes.
func (s *sink) came(events, requests, size int64) {
	s.requests.Add(requests)
	s.bytes.Add(size)
	if s.events.Add(events) == events && events > 0 {
		s.mu.Lock()
		close(s.begun)
		s.mu.Unlock()
	}
}

func (s *sink) GetTopic(_ context.Context, r *pubsubpb.GetTopicRequest) (*pubsubpb.Topic, error) {
	return &pubsubpb.Topic{Name: r.Topic}, nil
}

func (s *sink) Publish(_ context.Context, r *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
	answer := new(pubsubpb.PublishResponse)
	var events, size int64
	for range r.Messages {
		answer.MessageIds = append(answer.MessageIds,
			strconv.FormatInt(s.requests.Load()+int64(len(answer.MessageIds))+1, 10))
	}
	s.mu.Lock()
	count := s.count
	s.mu.Unlock()
	for _, m := range r.Messages {
		size += int64(len(m.Data))
		n := 1
		if count != nil {
			var err error
			if n, err = count(m.Data); err != nil {
				return nil, err
			}
		}
		events += int64(n)
	}
	s.came(events, int64(len(r.Messages)), size)
	return answer, nil
}

func (s *sink) GetWriteStream(_ context.Context, r *storagepb.GetWriteStreamRequest) (*storagepb.WriteStream, error) {
	return &storagepb.WriteStream{Name: r.Name, Type: storagepb.WriteStream_COMMITTED, Location: "us",
		CreateTime: timestamppb.Now()}, nil
}

func (s *sink) AppendRows(stream storagepb.BigQueryWrite_AppendRowsServer) error {
	name := ""
	var column protowire.Number // of Kafka's timestamp
	for {
		r, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if r.WriteStream != "" {
			name = r.WriteStream
		}
		// of the first request only
		for _, f := range r.GetProtoRows().GetWriterSchema().GetProtoDescriptor().GetField() {
			if f.GetName() == "kafka_timestamp" {
				column = protowire.Number(f.GetNumber())
			}
		}
		rows, size := r.GetProtoRows().GetRows().GetSerializedRows(), int64(0)
		for _, row := range rows {
			size += int64(len(row))
		}
		if s.timed.Load() {
			if err := s.time(rows, column, time.Now()); err != nil {
				return err
			}
		}
		// Answered first: whoever is done when the last event has come is not kept from seeing that.
		if err := stream.Send(&storagepb.AppendRowsResponse{WriteStream: name,
			Response: &storagepb.AppendRowsResponse_AppendResult_{
				AppendResult: &storagepb.AppendRowsResponse_AppendResult{}}}); err != nil {
			return err
		}
		s.came(int64(len(rows)), 1, size)
	}
}

// records counts the records of a batch of Sluice's.
func records(data []byte) (int, error) {
	b, err := new(batch.Decoder).Decode(data, batch.DefaultLimits)
	if err != nil {
		return 0, err
	}
	return len(b.Records), nil
}

// gzipped counts the lines of gzipped text.
func gzipped(data []byte) (int, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return 0, err
	}
	return lines(r)
}

// lz4ed counts the lines of text in an LZ4 frame.
func lz4ed(data []byte) (int, error) { return lines(lz4.NewReader(bytes.NewReader(data))) }

// lines counts lines, the last of which ends with the text.
func lines(r io.Reader) (int, error) {
	text, err := io.ReadAll(r)
	return bytes.Count(text, []byte("\n")) + 1, err
}

// time keeps how old rows are at their arrival. The column is microseconds since the Unix epoch.
func (s *sink) time(rows [][]byte, column protowire.Number, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range rows {
		for len(row) > 0 {
			number, kind, n := protowire.ConsumeTag(row)
			if n < 0 {
				return protowire.ParseError(n)
			}
			row = row[n:]
			if number == column && kind == protowire.VarintType {
				micros, _ := protowire.ConsumeVarint(row)
				s.ages = append(s.ages, now.Sub(time.UnixMicro(int64(micros))).Seconds())
				break
			}
			if n = protowire.ConsumeFieldValue(number, kind, row); n < 0 {
				return protowire.ParseError(n)
			}
			row = row[n:]
		}
	}
	return nil
}

// serveREST answers tabledata.insertAll, and requests for OAuth tokens.
func (s *sink) serveREST(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == "/token":
		fmt.Fprint(w, `{"access_token":"x","token_type":"Bearer","expires_in":3600}`)
	case strings.HasSuffix(r.URL.Path, "/insertAll"):
		body, err := io.ReadAll(r.Body)
		var request struct{ Rows []json.RawMessage }
		if err == nil {
			err = json.Unmarshal(body, &request)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, `{"kind":"bigquery#tableDataInsertAllResponse"}`)
		s.came(int64(len(request.Rows)), 1, int64(len(body)))
	default:
		http.NotFound(w, r)
	}
}
