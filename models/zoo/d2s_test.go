package zoo_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/zoo"
)

// Every file is the layer that it is a variant of, at its borders, with one
// operator of 1/gamma^2 of the channels between two that move them.
func TestD2SVariantsAreOfTheirLayers(t *testing.T) {
	orttest.Start(t)
	op := testkit.Must(models.ParseGranularity("op"))(t)
	for _, a := range trainedNetworks(t) {
		list := testkit.Must(zoo.D2S(a.Name))(t)
		layers := testkit.Must(load(t, a.Name).Split(op))(t)
		at := -1
		for _, v := range list {
			t.Run(a.Name+"/"+v.Layer, func(t *testing.T) {
				l := slices.IndexFunc(layers, func(l models.Layer) bool { return l.Name == v.Layer })
				if l <= at {
					t.Fatalf("layer %d of the network after layer %d: no layer has that name, or the order is wrong", l, at)
				}
				at = l
				checkD2S(t, &layers[l], v)
			})
		}
	}
}

func checkD2S(t *testing.T, layer *models.Layer, v zoo.TrainedVariant) {
	t.Helper()
	m := testkit.Must(models.Parse(v.Layer, v.ONNX, models.Options{}))(t)
	testkit.Equal(t, layer.Inputs, m.Inputs())
	testkit.Equal(t, layer.Outputs, m.Outputs())
	session := testkit.Must(ort.NewSession(v.ONNX, nil, nil, ort.Config{Threads: 1}))(t)
	session.Close()

	original := testkit.Must(layer.ONNX())(t)
	nodes, weights := operators(t, original)
	variant, smaller := operators(t, v.ONNX)
	first, last := "DepthToSpace", "SpaceToDepth"
	if nodes[0] == "Gemm" {
		first, last = "Reshape", "Reshape"
	}
	want := slices.Concat([]string{first, nodes[0], last}, nodes[1:])
	testkit.Equal(t, want, variant)
	g := int64(v.Gamma)
	small := slices.Clone(weights)
	small[0], small[1] = small[0]/g/g, small[1]/g/g
	if nodes[0] == "Gemm" { // either way round
		slices.Sort(small)
		slices.Sort(smaller)
	}
	testkit.Equal(t, small, smaller)
}

// operators are those of a layer, and the shape of the first one's weights that is a convolution or a matrix product.
func operators(t *testing.T, onnx []byte) (types []string, weights []int64) {
	t.Helper()
	m := new(pb.ModelProto)
	testkit.OK(t, proto.Unmarshal(onnx, m))
	for _, n := range m.GetGraph().GetNode() {
		types = append(types, n.GetOpType())
		if weights == nil && (n.GetOpType() == "Conv" || n.GetOpType() == "Gemm") {
			for _, w := range m.GetGraph().GetInitializer() {
				if w.GetName() == n.GetInput()[1] {
					weights = slices.Clone(w.GetDims())
				}
			}
		}
	}
	return types, weights
}

// No file is forgotten, and all together stay small: they are part of the program.
func TestD2SFilesAreListedAndSmall(t *testing.T) {
	listed, bytes := 0, 0
	for _, name := range zoo.Names() {
		list := testkit.Must(zoo.D2S(name))(t)
		for _, v := range list {
			listed, bytes = listed+1, bytes+len(v.ONNX)
		}
	}
	files := 0
	err := filepath.WalkDir("trained/d2s", func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files++
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if files != listed || listed == 0 {
		t.Errorf("%d files of D2S variants, %d are listed", files, listed)
	}
	t.Logf("%d variants, %d bytes", listed, bytes)
	if bytes > 1e6 {
		t.Errorf("%d bytes of D2S variants, want 1 MB at most", bytes)
	}
	testkit.Refused(zoo.D2S("nothing"))(t, zoo.ErrUnknown)
}
