package models_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
)

// sharedModels are the real networks next to the repository, if it has any.
func sharedModels(t *testing.T) []string {
	folder := os.Getenv("TERASTAL_SHARED")
	if folder == "" {
		folder = filepath.Join("..", "..", "shared")
	}
	files, _ := filepath.Glob(filepath.Join(folder, "models", "*.onnx"))
	if len(files) == 0 {
		t.Skip("no real models: set TERASTAL_SHARED to a folder with models/*.onnx")
	}
	return files
}

func split(t *testing.T, m *models.Model, granularity string) []models.Layer {
	t.Helper()
	g := testkit.Must(models.ParseGranularity(granularity))(t)
	return testkit.Must(m.Split(g))(t)
}

func TestSharedModelsChainBitIdentical(t *testing.T) {
	sequential.Skip(t)
	files := sharedModels(t)
	orttest.Start(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".onnx"), func(t *testing.T) {
			options := models.Options{}
			speech := strings.Contains(file, "silero")
			if speech {
				options.Dims = map[string]int64{"sequence": 576}
			}
			m := testkit.Must(models.Load(file, options))(t)
			inputs := models.RandomInputs(m, 7)
			for i, in := range m.Inputs() {
				if speech && in.Name == "sr" {
					binary.NativeEndian.PutUint64(inputs[i], 16000)
				}
			}
			for _, granularity := range []string{"op", "block", "model"} {
				layers := split(t, m, granularity)
				v := testkit.Must(models.Verify(m, layers, inputs, "none", false))(t)
				t.Logf("%-6s %3d layers, %d parameters, %d MACs, %+v", granularity, len(layers), m.Parameters(), m.MACs(), v)
				if !v.Identical {
					t.Errorf("%s: outputs differ by %g", granularity, v.MaxAbsDiff)
				}
				v = testkit.Must(models.Verify(m, layers, inputs, "all", false))(t)
				t.Logf("%-6s all: %+v", granularity, v)
				if !v.Holds("all") {
					t.Errorf("%s: with full optimisation outputs differ by %g, relative %g", granularity, v.MaxAbsDiff, v.MaxRelDiff)
				}
			}
		})
	}
}
