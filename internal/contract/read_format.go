package contract

import (
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"sluice/internal/schema"
)

var (
	registryKeys = []string{"url", "auth", "id_header", "subject", "version"}
	schemaKeys   = []string{"file", "message", "ids"}

	formats = []Format{FormatJSON, FormatAvro, FormatProtobuf, FormatJSONSchema}
	auths   = []Auth{AuthNone, AuthBasic, AuthBearer, AuthMTLS, AuthGoogle}
)

// headerName is a header of Kafka that serializers write an id of a schema into.
var headerName = regexp.MustCompile(`^[!-~]{1,249}$`)

// format reads how events are written, and with which schemas.
func (r *reader) format(o object) {
	c := r.c
	c.Format = FormatJSON
	if text, ok := r.text(o.get("format"), "format"); ok {
		if c.Format = Format(text); !slices.Contains(formats, c.Format) {
			r.wrong(o.get("format"), "format is %s: want json, avro, protobuf, or json_schema for JSON behind a schema "+
				"registry's prefix", strconv.Quote(text))
			return
		}
	}
	registry, file := o.get("registry"), o.get("schema")
	if c.Format == FormatJSON {
		for _, key := range []string{"registry", "schema"} {
			if n := o.keys[key]; n != nil {
				r.wrong(n, "%s goes with format: avro, protobuf or json_schema, and the format is %s: remove it, or say the format", key, c.Format)
			}
		}
		return
	}
	if registry == nil && file == nil && c.Format == FormatJSONSchema {
		return // the prefix is skipped
	}
	if registry == nil && file == nil {
		r.wrong(o.node, "the format is %s, and the contract does not say where the schema is: give registry, the address "+
			"of the schema registry, or schema, a file in the contract's folder", c.Format)
		return
	}
	if registry != nil {
		r.registry(registry)
	}
	if file != nil {
		r.schemaFile(file)
	}
	c.Writer = r.program
	if registry != nil && c.Versions != nil {
		r.wrong(file, "schema has ids, and there is a registry that knows them: remove one of both")
	}
}

// fromSchema is what columns says if they are to be those of the contract's schema.
const fromSchema = "from schema"

// columnsOf returns the list of columns: n, or what the schema has; nil: there is none.
func (r *reader) columnsOf(contract object, n *yaml.Node) *yaml.Node {
	if n.Kind != yaml.ScalarNode || n.Value != fromSchema {
		return n
	}
	if r.program == nil {
		if contract.get("schema") == nil {
			r.wrong(n, "columns are %s, and the contract has none: name the file of one with schema", fromSchema)
		}
		return nil
	}
	fields, err := r.program.Fields()
	if err != nil {
		r.wrong(n, "columns are %s: %v", fromSchema, err)
		return nil
	}
	names := make(map[string]bool)
	for _, name := range SystemColumns {
		names[name] = true
	}
	text := schema.Columns(fields, "", names)
	if contract.get("rest") == nil {
		// What versions to come add.
		text += "- {name: " + schema.ColumnName("rest", names) + ", type: JSON, rest: true}\n"
	}
	var list yaml.Node
	if err := yaml.Unmarshal([]byte(text), &list); err != nil {
		r.wrong(n, "columns are %s: %v", fromSchema, err)
		return nil
	}
	var place func(*yaml.Node)
	place = func(at *yaml.Node) {
		at.Line, at.Column = n.Line, n.Column
		for _, inner := range at.Content {
			place(inner)
		}
	}
	place(&list)
	return list.Content[0]
}

// registry reads where a schema registry is: its address, or a mapping.
func (r *reader) registry(n *yaml.Node) {
	to := &Registry{Auth: AuthNone}
	r.c.Registry = to
	at := n
	var o *object
	if n.Kind == yaml.MappingNode {
		mapping, _ := r.mapping(n, "registry", registryKeys)
		o = &mapping
		if at = o.get("url"); at == nil {
			r.wrong(n, "registry does not say url: give its address, such as https://registry.example.com")
			return
		}
		if text, ok := r.text(o.get("auth"), "auth"); ok {
			if to.Auth = Auth(text); !slices.Contains(auths, to.Auth) {
				r.wrong(o.get("auth"), "auth is %s: want none, basic, bearer, mtls or google", strconv.Quote(text))
			}
		}
		if text, ok := r.text(o.get("id_header"), "id_header"); ok {
			if r.c.IDHeader = text; !headerName.MatchString(text) {
				r.wrong(o.get("id_header"), "id_header is %s: want the name of a Kafka header, such as __value_schema_id", strconv.Quote(text))
			}
		}
	}
	if o != nil {
		to.Subject, _ = r.text(o.get("subject"), "subject")
		to.Version = r.integer(o.get("version"), "version", 1, 1<<30)
		if (to.Subject == "") != (to.Version == 0) {
			r.wrong(n, "registry says only one of subject and version: give both, the schema that the contract was made for, or neither")
		}
	}
	text, ok := r.text(at, "the registry's url")
	if !ok {
		return
	}
	to.URL = strings.TrimRight(text, "/")
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" ||
		u.Fragment != "":
		r.wrong(at, "the registry's url is no address of one: want https://HOST, with a port and a path if it has them")
	case u.User != nil:
		r.wrong(at, "the registry's url has a user or a password in it: say auth: basic, and give them to the functions as secrets")
	case u.Scheme == "http" && to.Auth != AuthNone:
		r.wrong(at, "the registry's url begins with http, and auth is %s: credentials go over https only", to.Auth)
	}
}

// schemaFile reads the schema in a file of the contract's folder.
func (r *reader) schemaFile(n *yaml.Node) {
	c, at := r.c, n
	if n.Kind == yaml.MappingNode {
		o, _ := r.mapping(n, "schema", schemaKeys)
		if at = o.get("file"); at == nil {
			r.wrong(n, "schema does not say file: name the file of the schema, in the contract's folder")
			return
		}
		if text, ok := r.text(o.get("message"), "message"); ok {
			if c.Schema.Message = text; c.Format != FormatProtobuf {
				r.wrong(o.get("message"), "message goes with format: protobuf, and the format is %s: remove it",
					c.Format)
			}
		}
	}
	name, ok := r.text(at, "the schema's file")
	if !ok {
		return
	}
	files := recorder{r.folder, make(map[string]string)}
	c.Schema.Name, c.Schema.Files = name, files.read
	r.program = r.compile(at, files, name)
	if n.Kind == yaml.MappingNode {
		r.versions(n, files)
	}
}

// versions reads which files have the schemas of ids.
func (r *reader) versions(n *yaml.Node, files recorder) {
	c := r.c
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value != "ids" {
			continue
		}
		ids := r.resolve(n.Content[i+1])
		if ids.Kind != yaml.MappingNode || len(ids.Content) == 0 {
			r.wrong(ids, "ids is %s: want a mapping from ids, as events name them, to files", kindOf(ids))
			return
		}
		c.Schema.IDs, c.Versions = make(map[string]string), make(map[string]*schema.Program)
		for k := 0; k < len(ids.Content); k += 2 {
			key, at := ids.Content[k], r.resolve(ids.Content[k+1])
			id, err := schema.ParseID(key.Value)
			if err != nil {
				r.wrong(key, "ids has %s: want a number, or the UUID of a schema version", strconv.Quote(key.Value))
				continue
			}
			name, ok := r.text(at, "the file of the id "+key.Value)
			if !ok {
				continue
			}
			if c.Versions[id.String()] != nil {
				r.wrong(key, "ids has %s twice: remove one", key.Value)
			}
			if p := r.compile(at, files, name); p != nil {
				c.Schema.IDs[id.String()], c.Versions[id.String()] = name, p
			}
		}
	}
}

// compile compiles the schema in a file; nil: it is wrong.
func (r *reader) compile(at *yaml.Node, files recorder, name string) *schema.Program {
	if !fs.ValidPath(name) {
		r.wrong(at, "the schema's file is %s: name a file in the contract's folder, or below", strconv.Quote(name))
		return nil
	}
	text, err := fs.ReadFile(files, name)
	var p *schema.Program
	switch {
	case err != nil:
		r.wrong(at, "the schema's file cannot be read: %v", err)
		return nil
	case r.c.Format == FormatAvro:
		p, err = schema.Avro(string(text))
	case r.c.Format == FormatJSONSchema:
		p, err = schema.JSON(string(text), nil)
	default:
		p, err = schema.ProtobufFile(files, name, r.c.Schema.Message)
	}
	if err != nil {
		r.wrong(at, "the schema's file %s: %v", name, err)
		return nil
	}
	return p
}

// recorder keeps the text of the files that are read.
type recorder struct {
	fs.FS
	read map[string]string
}

// Open implements fs.FS.
func (r recorder) Open(name string) (fs.File, error) {
	text, err := fs.ReadFile(r.FS, name)
	if err != nil {
		return nil, err
	}
	r.read[name] = string(text)
	return r.FS.Open(name)
}

// Folder is a folder of files by their names: an fs.FS, for contracts that lie in no folder.
type Folder map[string]string

// Open implements fs.FS.
func (f Folder) Open(name string) (fs.File, error) {
	text, ok := f[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &folderFile{strings.NewReader(text), path.Base(name)}, nil
}

type folderFile struct {
	*strings.Reader
	name string
}

func (f *folderFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *folderFile) Close() error               { return nil }
func (f *folderFile) Name() string               { return f.name }
func (f *folderFile) Mode() fs.FileMode          { return 0o444 }
func (f *folderFile) ModTime() time.Time         { return time.Time{} }
func (f *folderFile) IsDir() bool                { return false }
func (f *folderFile) Sys() any                   { return nil }
