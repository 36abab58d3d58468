package kafka

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
// time, so that it is asked beside the loop; Poll hands over what it answers.
func (c *Consumer) refreshToken() {
	if c.tokens == nil {
		c.log.Error("librdkafka asks for an OAUTHBEARER token: set --kafka-oauth=google, or sasl.oauthbearer.method=oidc " +
			"for it to get tokens itself")
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(c.tokenContext, tokenTimeout)
		defer cancel()
		token, err := c.tokens(ctx)
		select {
		case c.tokenAnswers <- tokenAnswer{token, err}:
		case <-c.tokenContext.Done():
		}
	}()
}

// passToken hands a token that has come to librdkafka.
func (c *Consumer) passToken() {
	select {
	case a := <-c.tokenAnswers:
		err := a.err
		if err == nil {
			err = c.client.SetOAuthBearerToken(a.token)
		}
		if err != nil {
			c.log.Error("no OAUTHBEARER token for Kafka; it is tried again", "error", err.Error())
			if err := c.client.SetOAuthBearerTokenFailure(err.Error()); err != nil {
				c.log.Warn("librdkafka does not take a token's failure", "error", err.Error())
			}
		}
	default:
	}
}
