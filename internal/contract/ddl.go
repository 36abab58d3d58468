package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// schemaColumn is a column in BigQuery's schema format, in the order in which it is written.
type schemaColumn struct {
	Name             string         `json:"name"`
	Type             Type           `json:"type"`
	Mode             string         `json:"mode"`
	Description      string         `json:"description,omitempty"`
	MaxLength        string         `json:"maxLength,omitempty"`
	Precision        string         `json:"precision,omitempty"`
	Scale            string         `json:"scale,omitempty"`
	RangeElementType *schemaElement `json:"rangeElementType,omitempty"`
	Fields           []schemaColumn `json:"fields,omitempty"`
}

type schemaElement struct {
	Type Type `json:"type"`
}

// Schema returns the table's columns in BigQuery's schema format, which bq, Terraform and
// Parse read.
func (t *Table) Schema() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(schemaColumns(t.Columns)); err != nil {
		panic(err) // strings can always be written
	}
	return b.Bytes()
}

func schemaColumns(columns []Column) []schemaColumn {
	var out []schemaColumn
	number := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	for _, c := range columns {
		s := schemaColumn{Name: c.Name, Type: c.Type, Mode: c.Mode(), Description: c.Description,
			MaxLength: number(c.MaxLength), Precision: number(c.Precision), Scale: number(c.Scale), Fields: schemaColumns(c.Columns)}
		if c.Type == RangeOf {
			s.RangeElementType = &schemaElement{c.Element}
		}
		out = append(out, s)
	}
	return out
}

// SQLType is the column's type in GoogleSQL, without its mode.
func (c Column) SQLType() string {
	switch {
	case c.Type == Record:
		fields := make([]string, len(c.Columns))
		for i, f := range c.Columns {
			fields[i] = sqlName(f.Name) + " " + f.sqlDefinition()
		}
		return "STRUCT<" + strings.Join(fields, ", ") + ">"
	case c.Type == RangeOf:
		return "RANGE<" + string(c.Element) + ">"
	case c.MaxLength > 0:
		return fmt.Sprintf("%s(%d)", c.Type, c.MaxLength)
	case c.Precision > 0 && c.Scale > 0:
		return fmt.Sprintf("%s(%d, %d)", c.Type, c.Precision, c.Scale)
	case c.Precision > 0:
		return fmt.Sprintf("%s(%d)", c.Type, c.Precision)
	}
	return string(c.Type)
}

func (c Column) sqlDefinition() string {
	text := c.SQLType()
	if c.Repeated {
		text = "ARRAY<" + text + ">"
	}
	if c.Required {
		text += " NOT NULL"
	}
	if c.Description != "" {
		text += " OPTIONS (description = " + sqlString(c.Description) + ")"
	}
	return text
}

// sqlString is a string in GoogleSQL.
func sqlString(s string) string { return strconv.Quote(s) }

// DDL returns the statements that make the contract's table and view in BigQuery. dataset is
// "dataset" or "project.dataset".
func (c *Contract) DDL(dataset string) string {
	name := func(table string) string { return "`" + dataset + "." + table + "`" }
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (\n", name(c.Table.Name))
	for i, column := range c.Table.Columns {
		comma := ","
		if i == len(c.Table.Columns)-1 {
			comma = ""
		}
		fmt.Fprintf(&b, "  %s %s%s\n", sqlName(column.Name), column.sqlDefinition(), comma)
	}
	b.WriteString(")")
	if c.Partition.Column != "" {
		column, _ := c.Table.Column(c.Partition.Column)
		fmt.Fprintf(&b, "\nPARTITION BY %s", partitionExpression(column, c.Partition.Every))
	}
	if len(c.Cluster) > 0 {
		names := make([]string, len(c.Cluster))
		for i, n := range c.Cluster {
			names[i] = sqlName(n)
		}
		fmt.Fprintf(&b, "\nCLUSTER BY %s", strings.Join(names, ", "))
	}
	var options []string
	if c.Description != "" {
		options = append(options, "description = "+sqlString(c.Description))
	}
	if c.Partition.Expire > 0 {
		days := strconv.FormatFloat(c.Partition.Expire.Hours()/24, 'f', -1, 64)
		options = append(options, "partition_expiration_days = "+days)
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "\nOPTIONS (%s)", strings.Join(options, ", "))
	}
	fmt.Fprintf(&b, ";\n\nCREATE VIEW %s AS\n%s;\n", name(c.ViewName()), strings.TrimRight(c.View("`"+dataset+"`"),
		"\n"))
	return b.String()
}

func partitionExpression(column Column, every Granularity) string {
	name, unit := sqlName(column.Name), strings.ToUpper(string(every))
	switch {
	case column.Type == Date && every == Day:
		return name
	case column.Type == Date:
		return "DATE_TRUNC(" + name + ", " + unit + ")"
	case every == Day:
		return "DATE(" + name + ")"
	case column.Type == DateTime:
		return "DATETIME_TRUNC(" + name + ", " + unit + ")"
	}
	return "TIMESTAMP_TRUNC(" + name + ", " + unit + ")"
}
