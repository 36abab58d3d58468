package schema

import (
	"errors"
	"io/fs"
)

// ProtobufFile compiles the schema in a file.
func ProtobufFile(fs.FS, string, string) (*Program, error) { return nil, errors.New("not yet") }
