package onnxpb

import (
	"fmt"

	"google.golang.org/protobuf/proto"
)

// NewModel is a model of one graph. Opset is the version of the standard operators; others are operator sets besides.
func NewModel(g *GraphProto, opset int64, others ...*OperatorSetIdProto) *ModelProto {
	sets := append([]*OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(opset)}}, others...)
	return &ModelProto{IrVersion: proto.Int64(8), OpsetImport: sets, Graph: g}
}

// NewValue describes a tensor that enters or leaves a graph. Without dimensions it is a scalar.
func NewValue[K ~int32](name string, kind K, dims ...int64) *ValueInfoProto {
	shape := &TensorShapeProto{}
	for _, d := range dims {
		shape.Dim = append(shape.Dim, &TensorShapeProto_Dimension{Value: &TensorShapeProto_Dimension_DimValue{DimValue: d}})
	}
	return &ValueInfoProto{Name: proto.String(name), Type: &TypeProto{Value: &TypeProto_TensorType{
		TensorType: &TypeProto_Tensor{ElemType: proto.Int32(int32(kind)), Shape: shape}}}}
}

// NewTensor is a stored tensor over raw, which it keeps.
func NewTensor[K ~int32](name string, kind K, raw []byte, dims ...int64) *TensorProto {
	return &TensorProto{Name: proto.String(name), DataType: proto.Int32(int32(kind)), Dims: dims, RawData: raw}
}

// NewNode is an operator without a name.
func NewNode(op string, inputs, outputs []string, attributes ...*AttributeProto) *NodeProto {
	return &NodeProto{OpType: proto.String(op), Input: inputs, Output: outputs, Attribute: attributes}
}

// Named gives a node a name and returns it.
func (x *NodeProto) Named(name string) *NodeProto {
	x.Name = proto.String(name)
	return x
}

// NewAttribute is a named int, int64, float32, string, []int, []int64 or graph.
func NewAttribute(name string, value any) *AttributeProto {
	a := &AttributeProto{Name: proto.String(name)}
	switch v := value.(type) {
	case int:
		a.Type, a.I = AttributeProto_INT.Enum(), proto.Int64(int64(v))
	case int64:
		a.Type, a.I = AttributeProto_INT.Enum(), proto.Int64(v)
	case float32:
		a.Type, a.F = AttributeProto_FLOAT.Enum(), proto.Float32(v)
	case string:
		a.Type, a.S = AttributeProto_STRING.Enum(), []byte(v)
	case []int:
		a.Type = AttributeProto_INTS.Enum()
		for _, n := range v {
			a.Ints = append(a.Ints, int64(n))
		}
	case []int64:
		a.Type, a.Ints = AttributeProto_INTS.Enum(), v
	case *GraphProto:
		a.Type, a.G = AttributeProto_GRAPH.Enum(), v
	default:
		panic(fmt.Sprintf("onnxpb: attribute %s of type %T", name, value))
	}
	return a
}

// Attr is a node's attribute of this name, or nil.
func (x *NodeProto) Attr(name string) *AttributeProto {
	for _, a := range x.GetAttribute() {
		if a.GetName() == name {
			return a
		}
	}
	return nil
}

// Stored is the graph's stored tensor of this name, or nil.
func (x *GraphProto) Stored(name string) *TensorProto {
	for _, t := range x.GetInitializer() {
		if t.GetName() == name {
			return t
		}
	}
	return nil
}

// Subgraphs are the graphs in a node's attributes (If, Loop, Scan).
func (x *NodeProto) Subgraphs() (list []*GraphProto) {
	for _, a := range x.GetAttribute() {
		if a.GetG() != nil {
			list = append(list, a.GetG())
		}
		list = append(list, a.GetGraphs()...)
	}
	return list
}
