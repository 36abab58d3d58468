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
	// TrustCloudRun says that Cloud Run's IAM check is switched on. It verifies the
	// tokens itself and hands them on without their signatures, so that only the
	// claims are left to check: the one service account among all that may invoke.
	// Without the IAM check anybody could send such a token.
	TrustCloudRun bool
	// Client fetches Google's public keys; nil: one with a timeout of 5 seconds.
	Client *http.Client
}

// Caller checks the OIDC token that Pub/Sub sends with a push: that Google signed
// it, for this audience, for this service account, and that it is valid now. See
// https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions.
type Caller struct {
	audience, email string
	trustCloudRun   bool
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
	client := *c.Client
	if client.Transport == nil {
		client.Transport = http.DefaultTransport
	}
	client.Transport = &keySource{base: client.Transport}
	v, err := idtoken.NewValidator(ctx, option.WithHTTPClient(&client))
	if err != nil {
		return nil, fmt.Errorf("prepare the check of push tokens: %w", err)
	}
	return &Caller{audience: c.Audience, email: c.Email, trustCloudRun: c.TrustCloudRun, validator: v}, nil
}

const (
	maxToken  = 8 << 10     // bytes; Google's have about 1,200
	clockSkew = time.Minute // how far ahead Google's clock may be
	// What Cloud Run puts in the place of a signature that it has verified:
	// https://cloud.google.com/run/docs/troubleshooting#signature-removed
	signatureRemoved = ".SIGNATURE_REMOVED_BY_GOOGLE"
)

// check returns the status that denies r, and why. The reason is for the log: the
// caller learns the status only. Errors of the token library are not passed on,
// because they quote the token's claims.
func (c *Caller) check(r *http.Request) (status int, err error) {
	// RFC 7235: the scheme's case does not matter.
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return unauthorized("missing")
	}
	if len(token) > maxToken || len(r.Header.Values("Authorization")) != 1 {
		return unauthorized("malformed")
	}
	if strings.HasSuffix(token, signatureRemoved) {
		return c.checkWithoutSignature(token)
	}
	// Google signs the tokens of service accounts with RS256. The validator takes
	// ES256 too, and reads beyond a signature that is too short for it.
	if !signedWithRS256(token) {
		return unauthorized("not signed with RS256")
	}
	p, err := c.validator.Validate(r.Context(), token, c.audience)
	if _, ok := errors.AsType[*url.Error](err); ok {
		return http.StatusServiceUnavailable, errors.New("push token: Google's public keys cannot be fetched")
	}
	if err != nil {
		return unauthorized("invalid: wrong signature, other audience or expired")
	}
	return c.checkClaims(p)
}

// checkWithoutSignature is check for a token whose signature Cloud Run has verified.
func (c *Caller) checkWithoutSignature(token string) (status int, err error) {
	if !c.trustCloudRun {
		return unauthorized("Cloud Run's IAM check has removed the signature, and push-trust-cloud-run is not set")
	}
	p, err := idtoken.ParsePayload(token)
	if err != nil {
		return unauthorized("malformed")
	}
	if p.Audience != c.audience || time.Now().Unix() > p.Expires {
		return unauthorized("other audience or expired")
	}
	return c.checkClaims(p)
}

// checkClaims checks what the validator does not.
func (c *Caller) checkClaims(p *idtoken.Payload) (status int, err error) {
	latest := time.Now().Add(clockSkew).Unix()
	if nbf, ok := p.Claims["nbf"].(float64); ok && nbf > float64(latest) {
		return unauthorized("not yet valid")
	}
	if p.IssuedAt > latest {
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

func unauthorized(reason string) (status int, err error) {
	return http.StatusUnauthorized, errors.New("push token: " + reason)
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
