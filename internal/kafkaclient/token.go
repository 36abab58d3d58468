package kafkaclient

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/compute/metadata"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// TokenSource supplies OAUTHBEARER tokens.
type TokenSource func(ctx context.Context) (kafka.OAuthBearerToken, error)

// GoogleTokens returns a source of tokens for Managed Service for Apache Kafka from
// application default credentials, which are looked for when the first token is
// needed. The form of the tokens is that of Google's own clients, see
// https://docs.cloud.google.com/managed-service-for-apache-kafka/docs/authentication-kafka
func GoogleTokens() TokenSource {
	detect := sync.OnceValues(func() (*auth.Credentials, error) {
		return credentials.DetectDefault(&credentials.DetectOptions{Scopes: []string{"https://www.googleapis.com/auth/cloud-platform"}})
	})
	return func(ctx context.Context) (kafka.OAuthBearerToken, error) {
		creds, err := detect()
		if err != nil {
			return kafka.OAuthBearerToken{}, fmt.Errorf("application default credentials: %w", err)
		}
		principal, err := serviceAccount(ctx, creds.JSON())
		if err != nil {
			return kafka.OAuthBearerToken{}, err
		}
		token, err := creds.Token(ctx)
		if err != nil {
			return kafka.OAuthBearerToken{}, fmt.Errorf("application default credentials: %w", err)
		}
		return GoogleToken(token.Value, token.Expiry, principal, time.Now())
	}
}

// serviceAccount is the e-mail address of the service account that the credentials
// in file, if there is one, are of.
func serviceAccount(ctx context.Context, file []byte) (string, error) {
	if len(file) == 0 {
		email, err := metadata.EmailWithContext(ctx, "default")
		if err != nil {
			return "", fmt.Errorf("the metadata server does not tell the service account: %w", err)
		}
		return email, nil
	}
	var f struct {
		Email       string `json:"client_email"`
		Impersonate string `json:"service_account_impersonation_url"`
	}
	if err := json.Unmarshal(file, &f); err != nil {
		return "", errors.New("the credentials file is no JSON object: give the path of one in GOOGLE_APPLICATION_CREDENTIALS")
	}
	if f.Email != "" {
		return f.Email, nil
	}
	// …/serviceAccounts/NAME@PROJECT.iam.gserviceaccount.com:generateAccessToken
	if _, rest, ok := strings.Cut(f.Impersonate, "/serviceAccounts/"); ok {
		email, _, _ := strings.Cut(rest, ":")
		return email, nil
	}
	return "", errors.New("the credentials are of no service account: use a service account, attached, impersonated or by key file")
}

// GoogleToken wraps an access token as the service wants it: three parts like those
// of a JWT, the last of which is the access token itself.
func GoogleToken(access string, expiry time.Time, principal string, now time.Time) (kafka.OAuthBearerToken, error) {
	part := func(v any) (string, error) {
		b, err := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b), err
	}
	header, err := part(map[string]string{"typ": "JWT", "alg": "GOOG_OAUTH2_TOKEN"})
	if err != nil {
		return kafka.OAuthBearerToken{}, err
	}
	claims, err := part(map[string]any{
		"exp": expiry.Unix(), "iat": now.Unix(), "iss": "Google", "scope": "kafka", "sub": principal,
	})
	if err != nil {
		return kafka.OAuthBearerToken{}, err
	}
	return kafka.OAuthBearerToken{
		TokenValue: header + "." + claims + "." + base64.RawURLEncoding.EncodeToString([]byte(access)),
		Expiration: expiry,
		Principal:  principal,
	}, nil
}
