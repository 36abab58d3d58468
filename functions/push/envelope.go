package push

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// errNoMetadata is the commonest misconfiguration.
var errNoMetadata = errors.New("the body is no JSON envelope, and without the header x-goog-pubsub-message-id it is no unwrapped push: " +
	"if the subscription unwraps payloads, let it write metadata (--push-no-wrapper-write-metadata)")

// parseEnvelope reads a wrapped push:
//
//	{"message": {"data": "base64", "messageId": "…", "publishTime": "…", "orderingKey": "…", "attributes": {…}},
//	 "subscription": "projects/P/subscriptions/S", "deliveryAttempt": 5}
//
// Pub/Sub writes messageId and publishTime a second time as message_id and
// publish_time. The token scan, rather than encoding/json into a struct, spares
// the payload two passes: see the package's benchmark.
func (b *buffer) parseEnvelope(m *Message) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(b.body))
	if d.PeekKind() != '{' {
		return errNoMetadata
	}
	message := false
	err := members(d, func(name string) (err error) {
		switch name {
		case "message":
			message = true
			return b.parseMessage(d, m)
		case "subscription":
			m.Subscription, err = text(d, name)
		case "deliveryAttempt":
			m.DeliveryAttempt, err = number(d, name)
		default:
			err = d.SkipValue()
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return errors.New("the envelope is followed by something else")
	}
	if !message || m.ID == "" {
		return errNoMetadata
	}
	return nil
}

func (b *buffer) parseMessage(d *jsontext.Decoder, m *Message) error {
	if d.PeekKind() != '{' {
		return errors.New("message is no JSON object")
	}
	m.Data = b.data[:0]
	return members(d, func(name string) (err error) {
		switch name {
		case "data":
			if b.data, err = base64Value(d, b.data[:0]); err == nil {
				m.Data = b.data
			}
		case "messageId", "message_id":
			m.ID, err = text(d, name)
		case "publishTime", "publish_time":
			var s string
			if s, err = text(d, name); err == nil {
				m.PublishTime, _ = time.Parse(time.RFC3339Nano, s)
			}
		case "orderingKey", "ordering_key":
			m.OrderingKey, err = text(d, name)
		case "attributes":
			if d.PeekKind() != '{' {
				return d.SkipValue()
			}
			m.Attributes = make(map[string]string)
			return members(d, func(name string) (err error) {
				m.Attributes[name], err = text(d, "attributes."+name)
				return err
			})
		default:
			err = d.SkipValue()
		}
		return err
	})
}

// members calls f at each value of the object that d is about to read.
func members(d *jsontext.Decoder, f func(name string) error) error {
	if _, err := d.ReadToken(); err != nil {
		return syntax(err)
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return syntax(err)
		}
		if err := f(name.String()); err != nil {
			return syntax(err)
		}
	}
	_, err := d.ReadToken()
	return syntax(err)
}

// syntax reduces the decoder's errors, which quote the input, to what is wrong and
// where.
func syntax(err error) error {
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return fmt.Errorf("the envelope is no valid JSON at byte %d", e.ByteOffset)
	}
	return err
}

// text reads a string; null is "".
func text(d *jsontext.Decoder, name string) (string, error) {
	t, err := d.ReadToken()
	switch {
	case err != nil:
		return "", err
	case t.Kind() == 'n':
		return "", nil
	case t.Kind() != '"':
		return "", fmt.Errorf("%s is no string", name)
	}
	return t.String(), nil
}

func number(d *jsontext.Decoder, name string) (int, error) {
	v, err := d.ReadValue()
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(v))
	if err != nil {
		return 0, fmt.Errorf("%s is no whole number", name)
	}
	return n, nil
}

// base64Value reads a string of base64 into dst.
func base64Value(d *jsontext.Decoder, dst []byte) ([]byte, error) {
	v, err := d.ReadValue()
	if err != nil {
		return dst, err
	}
	switch v.Kind() {
	case 'n':
		return dst, nil
	case '"':
	default:
		return dst, errors.New("message.data is no string")
	}
	src := []byte(v[1 : len(v)-1])
	if bytes.IndexByte(src, '\\') >= 0 { // some encoders write = as \u003d and / as \/
		if src, err = jsontext.AppendUnquote(nil, v); err != nil {
			return dst, err
		}
	}
	if dst, err = base64.StdEncoding.AppendDecode(dst, src); err != nil {
		return dst, errors.New("message.data is no base64")
	}
	return dst, nil
}
