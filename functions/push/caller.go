package push

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/api/idtoken"
	"google.golang.org/api/option"
)

// CallerConfig says who may call.
type CallerConfig struct {
	// Audience is the one that the subscription's push configuration names.
	Audience string
	// Email is the service account that Pub/Sub pushes as.
	Email string
	// Client fetches Google's public keys; nil: one with a timeout of 5 seconds.
	Client *http.Client
}

// Caller checks the OIDC token that Pub/Sub sends with a push: that Google signed
// it, for this audience, for this service account, and that it is valid now. Cloud
// Run's own IAM check comes before; this one holds where that is switched off by
// mistake. See https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions.
type Caller struct {
	audience, email string
	validator       *idtoken.Validator
}

// NewCaller returns a Caller, or an error that says what is missing in c.
func NewCaller(ctx context.Context, c CallerConfig) (*Caller, error) {
	if c.Audience == "" || c.Email == "" {
		return nil, errors.New("the check of push tokens needs both an audience and the email of the service account")
	}
	if c.Client == nil {
		c.Client = &http.Client{Timeout: 5 * time.Second}
	}
	v, err := idtoken.NewValidator(ctx, option.WithHTTPClient(c.Client))
	if err != nil {
		return nil, fmt.Errorf("prepare the check of push tokens: %w", err)
	}
	return &Caller{audience: c.Audience, email: c.Email, validator: v}, nil
}

const (
	maxToken  = 8 << 10     // bytes; Google's have about 1,200
	clockSkew = time.Minute // how far ahead Google's clock may be
)

// check returns the status that denies r, and why. The reason is for the log: the
// caller learns the status only. Errors of the token libraries are not passed on,
// because they quote the token's claims.
func (c *Caller) check(r *http.Request) (status int, err error) {
	unauthorized := func(reason string) (int, error) {
		return http.StatusUnauthorized, errors.New("push token: " + reason)
	}
	// RFC 7235: the scheme's case does not matter.
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return unauthorized("missing")
	}
	if len(token) > maxToken || len(r.Header.Values("Authorization")) != 1 {
		return unauthorized("malformed")
	}
	// Google signs the tokens of service accounts with RS256. The validator takes
	// ES256 too, and reads beyond a signature that is too short for it.
	if !signedWithRS256(token) {
		return unauthorized("not signed with RS256")
	}
	p, err := c.validator.Validate(r.Context(), token, c.audience)
	if err != nil {
		if _, ok := errors.AsType[*url.Error](err); ok {
			return http.StatusServiceUnavailable, errors.New("push token: Google's public keys cannot be fetched")
		}
		return unauthorized("invalid: wrong signature, other audience or expired")
	}
	// The validator checks signature, audience and expiry only.
	now := time.Now()
	if nbf, ok := p.Claims["nbf"].(float64); ok && now.Add(clockSkew).Before(time.Unix(int64(nbf), 0)) {
		return unauthorized("not yet valid")
	}
	if now.Add(clockSkew).Before(time.Unix(p.IssuedAt, 0)) {
		return unauthorized("issued in the future")
	}
	if p.Issuer != "https://accounts.google.com" && p.Issuer != "accounts.google.com" {
		return unauthorized("other issuer")
	}
	if verified, _ := p.Claims["email_verified"].(bool); !verified {
		return http.StatusForbidden, errors.New("push token: its email is not verified")
	}
	if email, _ := p.Claims["email"].(string); email != c.email {
		return http.StatusForbidden, errors.New("push token: other service account")
	}
	return 0, nil
}

// signedWithRS256 reads the token's header without trusting it.
func signedWithRS256(token string) bool {
	header, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil {
		return false
	}
	var h struct {
		Algorithm string `json:"alg"`
	}
	return json.Unmarshal(b, &h) == nil && h.Algorithm == "RS256"
}
