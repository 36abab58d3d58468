// Package reference carries payloads that are too dear for a message: the payload lies as one
// object in a bucket of Cloud Storage, and the Pub/Sub message has a Reference to it (the claim
// check pattern). Pub/Sub charges for each byte on its way in and out, Cloud Storage for each
// request, so that above some 100 kB the object is cheaper. infra/COSTS.md has the sum.
//
// The bridge writes an object before it publishes its Reference, under a name that nobody uses
// again. Who has brought the records home deletes it. So an object that is gone was
// brought home; what nobody fetches is deleted by the bucket's lifecycle, which must be later
// than the end of Pub/Sub's retention.
//
// In a message: the four bytes of Magic, the version, and the message of reference.proto.
package reference

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"sluice/internal/reference/referencepb"
)

// Magic begins the data of a message that is a Reference. No UTF-8 text and no batch begins so.
const (
	Magic   = "\xffSLR"
	Version = 1
)

// MaxBytes is the size of a payload that a Reference may have: what Pub/Sub itself would carry.
const MaxBytes = 10_000_000

// ErrVersion is a Reference of a bridge that is newer than its reader.
var ErrVersion = errors.New("a newer bridge than this program published the reference: deploy its version's functions first")

// Reference names an object whose content is a message's payload.
type Reference struct {
	Bucket, Object string
	Size           int64 // bytes
	SHA256         [sha256.Size]byte
}

// Of returns the Reference of payload in an object.
func Of(bucket, object string, payload []byte) Reference {
	return Reference{Bucket: bucket, Object: object, Size: int64(len(payload)), SHA256: sha256.Sum256(payload)}
}

// Append appends the data of the message.
func (r *Reference) Append(b []byte) []byte {
	b = append(append(b, Magic...), Version)
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(b, &referencepb.Reference{
		Bucket: r.Bucket, Object: r.Object, Size: uint64(r.Size), Sha256: r.SHA256[:],
	})
	if err != nil {
		panic("reference: " + err.Error()) // Cloud Storage takes names of valid UTF-8 only
	}
	return b
}

// Is reports whether data is said to be a Reference.
func Is(data []byte) bool { return bytes.HasPrefix(data, []byte(Magic)) }

// Parse reads the data of a message for which Is is true.
func Parse(data []byte) (Reference, error) {
	var r Reference
	rest, ok := bytes.CutPrefix(data, []byte(Magic))
	if !ok || len(rest) == 0 {
		return r, errors.New("is no reference")
	}
	if rest[0] > Version {
		return r, ErrVersion
	}
	var p referencepb.Reference
	if err := proto.Unmarshal(rest[1:], &p); err != nil {
		return r, errors.New("is cut off or damaged")
	}
	switch {
	case rest[0] == 0 || len(p.ProtoReflect().GetUnknown()) > 0:
		return r, errors.New("is damaged")
	case p.Bucket == "" || p.Object == "" || len(p.Bucket) > 222 || len(p.Object) > 1024:
		return r, errors.New("names no object")
	case p.Size == 0 || p.Size > MaxBytes:
		return r, fmt.Errorf("says that its object has %d bytes, and 1 to %d are possible", p.Size, MaxBytes)
	case len(p.Sha256) != sha256.Size:
		return r, errors.New("has no SHA-256")
	}
	r = Reference{Bucket: p.Bucket, Object: p.Object, Size: int64(p.Size)}
	copy(r.SHA256[:], p.Sha256)
	return r, nil
}

// Check says in what content is not what the Reference was made of; nil: it is.
func (r *Reference) Check(content []byte) error {
	if int64(len(content)) != r.Size {
		return fmt.Errorf("object %s has another size than its message says: %d bytes, not %d", r.Object, len(content),
			r.Size)
	}
	if sha256.Sum256(content) != r.SHA256 {
		return fmt.Errorf("object %s has another SHA-256 than its message says", r.Object)
	}
	return nil
}
