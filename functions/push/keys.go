package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// keySource is the way to Google's public keys. The library behind Caller takes any answer for a set of keys, also an
// error's page, keeps one that is empty, and asks again for every token while there is none. An answer that is no set
// of keys is an error here, which makes the push 503 and not 401, and stands for keyPause.
type keySource struct {
	base http.RoundTripper

	mu    sync.Mutex
	until time.Time
	err   error
}

const (
	keyPause = 2 * time.Second
	maxKeys  = 1 << 20 // bytes of an answer; Google's have about 2,000
)

// RoundTrip implements http.RoundTripper.
func (k *keySource) RoundTrip(req *http.Request) (*http.Response, error) {
	k.mu.Lock()
	err := k.err
	if time.Now().After(k.until) {
		err = nil
	}
	k.mu.Unlock()
	if err != nil {
		return nil, err
	}
	answer, err := k.fetch(req)
	if err != nil && req.Context().Err() == nil { // whose caller has left says nothing about Google
		k.mu.Lock()
		k.err, k.until = err, time.Now().Add(keyPause)
		k.mu.Unlock()
	}
	return answer, err
}

func (k *keySource) fetch(req *http.Request) (*http.Response, error) {
	answer, err := k.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the key set server answers %d", answer.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxKeys+1))
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys []struct {
			KeyID string `json:"kid"`
		} `json:"keys"`
	}
	if len(body) > maxKeys || json.Unmarshal(body, &set) != nil || len(set.Keys) == 0 {
		return nil, errors.New("the key set server answers without a key")
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}
