// Command redpanda is Redpanda Connect as far as the comparison needs it: its command line with the components that read
// Kafka and publish to Pub/Sub.
//
// It is built from version 4.27.0, the last under the name Benthos, all of whose components are under the MIT licence.
package main

import (
	"context"

	_ "github.com/benthosdev/benthos/v4/public/components/gcp"
	_ "github.com/benthosdev/benthos/v4/public/components/io"
	_ "github.com/benthosdev/benthos/v4/public/components/kafka"
	_ "github.com/benthosdev/benthos/v4/public/components/pure"
	"github.com/benthosdev/benthos/v4/public/service"
)

func main() { service.RunCLI(context.Background()) }
