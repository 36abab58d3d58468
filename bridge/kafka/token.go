package bridge

import (
	"context"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// tokenTimeout bounds one try to get a token. librdkafka asks again after a
// failure, and well before a token expires.
const tokenTimeout = 10 * time.Second

// tokenAnswer is what a token source has answered.
type tokenAnswer struct {
	token kafka.OAuthBearerToken
	err   error
}

// refreshToken answers librdkafka's request for a token. The source may take its
// time, so that it is asked beside the loop, which hands over what it answers.
func (b *Bridge) refreshToken() {
	if b.tokens == nil {
		b.log.Error("librdkafka asks for an OAUTHBEARER token: set --kafka-oauth=google, or sasl.oauthbearer.method=oidc " +
			"for it to get tokens itself")
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(b.publishCtx, tokenTimeout)
		defer cancel()
		token, err := b.tokens(ctx)
		select {
		case b.tokenAnswers <- tokenAnswer{token, err}:
		case <-b.publishCtx.Done():
		}
	}()
}

// passToken hands a token that has come to librdkafka.
func (b *Bridge) passToken() {
	select {
	case a := <-b.tokenAnswers:
		err := a.err
		if err == nil {
			err = b.consumer.SetOAuthBearerToken(a.token)
		}
		if err != nil {
			b.log.Error("no OAUTHBEARER token for Kafka; it is tried again", "error", err.Error())
			if err := b.consumer.SetOAuthBearerTokenFailure(err.Error()); err != nil {
				b.log.Warn("librdkafka does not take a token's failure", "error", err.Error())
			}
		}
	default:
	}
}
