package bridge

// refreshToken answers librdkafka's request for an OAUTHBEARER token.
func (b *Bridge) refreshToken() {}
