package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"

	"github.com/paulmach/orb"
	"github.com/paulmach/orb/encoding/wkt"
	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/contract"
)

// The problems of geographies.
var (
	problemWKT = &problem{contract.CodeInvalidValue,
		"is no geography: send well-known text such as POINT(8.5 47.4)"}
	problemGeoJSON = &problem{contract.CodeInvalidValue, "is no geography: send the geometry of GeoJSON (RFC 7946)"}
	problemDegrees = &problem{contract.CodeOutOfRange, "has a place outside the degrees -180 to 180 and -90 to 90: " +
		"send longitude before latitude"}
	problemRing = &problem{contract.CodeInvalidValue, "has a ring that is not closed, or of fewer than three " +
		"corners: let each end where it begins"}
)

// appendGeography appends a GEOGRAPHY: text, as it stands, that is well-known text or GeoJSON.
// That lines cross each other, or that a polygon covers more than half of the earth, is
// left to BigQuery.
func (c *column) appendGeography(row, text []byte) ([]byte, *problem) {
	var shape orb.Geometry
	if begin := bytes.TrimLeft(text, " \t\r\n"); len(begin) > 0 && begin[0] == '{' {
		if c.accept&contract.FormGeoJSON == 0 {
			return row, problemWKT
		}
		var err error
		if shape, err = parseGeoJSON(text, 0); err != nil {
			return row, problemGeoJSON
		}
	} else {
		if c.accept&contract.FormWKT == 0 {
			return row, problemGeoJSON
		}
		var err error
		if shape, err = wkt.Unmarshal(string(text)); err != nil {
			return row, problemWKT
		}
	}
	if p := checkShape(shape); p != nil {
		return row, p
	}
	row = protowire.AppendVarint(row, c.tag)
	return protowire.AppendBytes(row, text), nil
}

// checkShape is the problem of a shape on the earth, if it has one.
func checkShape(shape orb.Geometry) *problem {
	switch s := shape.(type) {
	case orb.Point:
		if !(s[0] >= -180 && s[0] <= 180 && s[1] >= -90 && s[1] <= 90) { // not a number is neither
			return problemDegrees
		}
	case orb.MultiPoint:
		return checkShapes(s)
	case orb.LineString:
		return checkShapes(s)
	case orb.MultiLineString:
		return checkShapes(s)
	case orb.Ring:
		if len(s) < 4 || !s.Closed() {
			return problemRing
		}
		return checkShapes(s)
	case orb.Polygon:
		return checkShapes(s)
	case orb.MultiPolygon:
		return checkShapes(s)
	case orb.Collection:
		return checkShapes(s)
	}
	return nil
}

func checkShapes[S ~[]E, E orb.Geometry](shapes S) *problem {
	for _, s := range shapes {
		if p := checkShape(s); p != nil {
			return p
		}
	}
	return nil
}

var errGeoJSON = errors.New("event: no geometry of GeoJSON")

// maxCollections is how deep collections of geometries may stand in each other.
const maxCollections = 8

// parseGeoJSON reads a geometry of RFC 7946. The package orb/geojson is not used: it brings
// a database driver with it.
func parseGeoJSON(text []byte, depth int) (orb.Geometry, error) {
	var g struct {
		Type        string            `json:"type"`
		Coordinates json.RawMessage   `json:"coordinates"`
		Geometries  []json.RawMessage `json:"geometries"`
	}
	if err := json.Unmarshal(text, &g); err != nil {
		return nil, err
	}
	if g.Type == "GeometryCollection" {
		if g.Geometries == nil || depth == maxCollections {
			return nil, errGeoJSON
		}
		var all orb.Collection
		for _, one := range g.Geometries {
			shape, err := parseGeoJSON(one, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, shape)
		}
		return all, nil
	}
	if len(g.Coordinates) == 0 {
		return nil, errGeoJSON
	}
	switch g.Type {
	case "Point":
		return positions(g.Coordinates, func(p position) orb.Geometry { return p.point() })
	case "MultiPoint":
		return positions(g.Coordinates, func(all []position) orb.Geometry { return orb.MultiPoint(points(all)) })
	case "LineString":
		return positions(g.Coordinates, func(all []position) orb.Geometry { return orb.LineString(points(all)) })
	case "MultiLineString":
		return positions(g.Coordinates, func(all [][]position) orb.Geometry {
			lines := orb.MultiLineString{}
			for _, line := range all {
				lines = append(lines, points(line))
			}
			return lines
		})
	case "Polygon":
		return positions(g.Coordinates, func(all [][]position) orb.Geometry { return polygon(all) })
	case "MultiPolygon":
		return positions(g.Coordinates, func(all [][][]position) orb.Geometry {
			shapes := orb.MultiPolygon{}
			for _, shape := range all {
				shapes = append(shapes, polygon(shape))
			}
			return shapes
		})
	}
	return nil, errGeoJSON
}

// position is a longitude, a latitude, and a height or more, which BigQuery leaves away.
type position []float64

func (p position) point() orb.Point { return orb.Point{p[0], p[1]} }

// positions reads coordinates as C and makes a shape of them.
func positions[C any](text []byte, shape func(C) orb.Geometry) (orb.Geometry, error) {
	var c C
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, err
	}
	if short(c) {
		return nil, errGeoJSON
	}
	return shape(c), nil
}

// short reports whether there is a position of fewer than two numbers in c.
func short(c any) bool {
	switch c := c.(type) {
	case position:
		return len(c) < 2
	case []position:
		return slices.ContainsFunc(c, func(p position) bool { return short(p) })
	case [][]position:
		return slices.ContainsFunc(c, func(p []position) bool { return short(p) })
	case [][][]position:
		return slices.ContainsFunc(c, func(p [][]position) bool { return short(p) })
	}
	return false
}

func points(all []position) []orb.Point {
	out := make([]orb.Point, 0, len(all))
	for _, p := range all {
		out = append(out, p.point())
	}
	return out
}

func polygon(rings [][]position) orb.Polygon {
	p := orb.Polygon{}
	for _, ring := range rings {
		p = append(p, points(ring))
	}
	return p
}
