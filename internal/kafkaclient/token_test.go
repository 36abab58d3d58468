package kafkaclient

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

// A token for Managed Service for Apache Kafka has three parts of unpadded base64:
// a header with Google's algorithm, claims with the principal and the times, and
// the access token.
func TestGoogleToken(t *testing.T) {
	now, expiry := time.Unix(1_700_000_000, 0), time.Unix(1_700_003_600, 0)
	token, err := GoogleToken("ya29.access", expiry, "bridge@p.iam.gserviceaccount.com", now)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token.TokenValue, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts, want 3", len(parts))
	}
	var decoded [3][]byte
	for i, p := range parts {
		if decoded[i], err = base64.RawURLEncoding.DecodeString(p); err != nil {
			t.Fatal(err)
		}
	}
	var header struct{ Typ, Alg string }
	var claims struct {
		Exp, Iat        int64
		Iss, Scope, Sub string
	}
	if err := errors.Join(json.Unmarshal(decoded[0], &header), json.Unmarshal(decoded[1], &claims)); err != nil {
		t.Fatal(err)
	}
	if header.Typ != "JWT" || header.Alg != "GOOG_OAUTH2_TOKEN" {
		t.Errorf("the header is %+v", header)
	}
	if claims.Exp != expiry.Unix() || claims.Iat != now.Unix() || claims.Iss != "Google" || claims.Scope != "kafka" ||
		claims.Sub != "bridge@p.iam.gserviceaccount.com" {
		t.Errorf("the claims are %+v", claims)
	}
	if string(decoded[2]) != "ya29.access" {
		t.Error("the third part is not the access token")
	}
	if token.Expiration != expiry || token.Principal != claims.Sub {
		t.Errorf("expiration %s, principal %s", token.Expiration, token.Principal)
	}
}

// The principal is the service account that the credentials are of, or an error
// that says what to use.
func TestServiceAccount(t *testing.T) {
	for _, test := range []struct{ name, file, want string }{
		{"key file", `{"type": "service_account", "client_email": "a@p.iam.gserviceaccount.com"}`, "a@p.iam.gserviceaccount.com"},
		{"impersonated", `{"service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/b@p.iam.gserviceaccount.com:generateAccessToken"}`, "b@p.iam.gserviceaccount.com"},
		{"a person", `{"type": "authorized_user"}`, "error: service account"},
		{"no JSON", `hello`, "error: GOOGLE_APPLICATION_CREDENTIALS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := serviceAccount(t.Context(), []byte(test.file))
			if want, isErr := strings.CutPrefix(test.want, "error: "); isErr {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("the error is %v, want one with %q", err, want)
				}
			} else if got != test.want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}
