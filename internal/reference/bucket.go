package reference

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"cloud.google.com/go/storage"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	htransport "google.golang.org/api/transport/http"

	"sluice/internal/dial"
)

// ErrGone is an object that does not exist in a bucket that does: its payload was brought home.
var ErrGone = errors.New("the object is gone: its records were brought home")

// ValidBucket is what Cloud Storage takes as the name of a bucket.
var ValidBucket = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$`)

// Bucket is the bucket of Cloud Storage with the payloads. Its methods may be called by
// several goroutines.
type Bucket struct {
	name   string
	client *storage.Client
	handle *storage.BucketHandle
}

// Open returns the bucket of that name. It asks nobody whether there is one. emulator is the
// host:port of a server to use instead of Google's, without encryption or credentials, or empty.
// The client itself knows that server as the variable STORAGE_EMULATOR_HOST, with or without http://.
func Open(ctx context.Context, name, emulator string) (*Bucket, error) {
	options := []option.ClientOption{storage.WithJSONReads()} // one API for all
	if emulator == "" {
		// Google's connections and credentials, but that dead connections are replaced sooner.
		transport, err := htransport.NewTransport(ctx, dial.HTTP(), option.WithScopes(storage.ScopeReadWrite))
		if err != nil {
			return nil, fmt.Errorf("find the credentials for Cloud Storage: %w", err)
		}
		options = append(options, option.WithHTTPClient(&http.Client{Transport: transport}))
	} else {
		options = append(options, option.WithEndpoint("http://"+strings.TrimPrefix(emulator, "http://")+"/storage/v1/"),
			option.WithoutAuthentication())
	}
	client, err := storage.NewClient(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("make the Cloud Storage client: %w", err)
	}
	// Every request can be repeated: an object has a name that nobody used before, and is never
	// written again.
	handle := client.Bucket(name).Retryer(
		storage.WithPolicy(storage.RetryAlways),
		storage.WithBackoff(backoff))
	return &Bucket{name: name, client: client, handle: handle}, nil
}

// Close ends the client.
func (b *Bucket) Close() error { return b.client.Close() }

// Name is the bucket's.
func (b *Bucket) Name() string { return b.name }

// backoff is between the tries of a request.
var backoff = gax.Backoff{Initial: 50 * time.Millisecond, Max: 2 * time.Second, Multiplier: 2}

// Put writes payload to a new object, and tries again until ctx ends.
func (b *Bucket) Put(ctx context.Context, payload []byte) (Reference, error) {
	// Names that are random spread over Cloud Storage's servers.
	r := Of(b.name, rand.Text(), payload)
	// The client tries again only what it has in a buffer.
	for pause := backoff; ; {
		err := b.put(ctx, r.Object, payload)
		switch {
		case err == nil:
			return r, nil
		case !storage.ShouldRetry(err):
			return Reference{}, b.explain("write an object to", err)
		}
		if ended := gax.Sleep(ctx, pause.Pause()); ended != nil {
			return Reference{}, b.explain("write an object to", errors.Join(err, ended))
		}
	}
}

func (b *Bucket) put(ctx context.Context, object string, payload []byte) error {
	w := b.handle.Object(object).If(storage.Conditions{DoesNotExist: true}).NewWriter(ctx)
	w.ChunkSize = 0 // one request, without a buffer
	w.ContentType = "application/octet-stream"
	_, err := w.Write(payload)
	if closing := w.Close(); err == nil {
		err = closing
	}
	if is(err, http.StatusPreconditionFailed) {
		return nil // a try before has written it, and its answer was lost
	}
	return err
}

// Get reads an object, and tries again until ctx ends. The error is ErrGone if it does not exist,
// and otherwise nothing is known of it. The content is for Check.
func (b *Bucket) Get(ctx context.Context, r *Reference) ([]byte, error) {
	content, err := b.get(ctx, r)
	switch {
	case err == nil:
		return content, nil
	case !errors.Is(err, storage.ErrObjectNotExist):
		return nil, b.explain("read an object of", err)
	}
	// Of an object in a bucket that does not exist the answer is the same.
	if _, err := b.handle.Attrs(ctx); err != nil {
		return nil, b.explain("look at", err)
	}
	return nil, ErrGone
}

func (b *Bucket) get(ctx context.Context, r *Reference) ([]byte, error) {
	reader, err := b.handle.Object(r.Object).NewReader(ctx)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	// One byte more tells that the object is larger than it should be.
	content := bytes.NewBuffer(make([]byte, 0, r.Size+bytes.MinRead))
	if _, err := content.ReadFrom(io.LimitReader(reader, r.Size+1)); err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}

// Delete deletes an object. One that is gone already is no error.
func (b *Bucket) Delete(ctx context.Context, r *Reference) error {
	err := b.handle.Object(r.Object).Delete(ctx)
	if err == nil || errors.Is(err, storage.ErrObjectNotExist) {
		return nil
	}
	return b.explain("delete an object of", err)
}

// Orphans counts the objects that were written before a moment, and their bytes: nobody has fetched
// them.
func (b *Bucket) Orphans(ctx context.Context, before time.Time) (objects, size int64, err error) {
	query := &storage.Query{Projection: storage.ProjectionNoACL}
	if err := query.SetAttrSelection([]string{"Name", "Created", "Size"}); err != nil {
		return 0, 0, err
	}
	all := b.handle.Objects(ctx, query)
	for {
		o, err := all.Next()
		if errors.Is(err, iterator.Done) {
			return objects, size, nil
		}
		if err != nil {
			return 0, 0, b.explain("list the objects of", err)
		}
		if o.Created.Before(before) {
			objects, size = objects+1, size+o.Size
		}
	}
}

// explain says what failed and, where that is known, what mends it.
func (b *Bucket) explain(what string, err error) error {
	hint := ""
	switch {
	case is(err, http.StatusForbidden), is(err, http.StatusUnauthorized):
		hint = ": its service account lacks the role on the bucket, infra/payloads.tf has it"
	case errors.Is(err, storage.ErrBucketNotExist), is(err, http.StatusNotFound):
		hint = ": there is no bucket of that name"
	}
	return fmt.Errorf("%s the bucket %s%s: %w", what, b.name, hint, err)
}

func is(err error, status int) bool {
	e, ok := errors.AsType[*googleapi.Error](err)
	return ok && e.Code == status
}
