package models

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// layerWeights is the data file that all layers of a folder share.
const layerWeights = "weights.bin"

// WriteLayers writes layers to a folder, which is made if need be, as 000.onnx, 001.onnx, ..., and returns these paths.
// Tensors of 1 KiB and more are in weights.bin, each different one once and at a multiple of 4096 bytes; the layers
// refer to it as ONNX external data. Every file is replaced atomically, weights.bin first. A folder that holds more
// layers of an earlier split is refused: their weights would be replaced.
func WriteLayers(folder string, layers []Layer) (files []string, err error) {
	defer func() {
		if err != nil {
			files, err = nil, fmt.Errorf("writing layers: %w", err)
		}
	}()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	path := func(i int) string { return filepath.Join(folder, fmt.Sprintf("%03d.onnx", i)) }
	if _, err := os.Lstat(path(len(layers))); err == nil {
		return nil, fmt.Errorf("%s is a layer of another split; remove it or choose another folder", path(len(layers)))
	}
	weights, err := renameio.NewPendingFile(filepath.Join(folder, layerWeights), renameio.WithPermissions(0o644))
	if err != nil {
		return nil, err
	}
	defer weights.Cleanup()
	data := newDataFile(layerWeights, weights, sameContent)
	onnx := make([][]byte, len(layers))
	for i := range layers {
		if onnx[i], err = layers[i].document().external(data); err != nil {
			return nil, fmt.Errorf("layer %d (%s): %w", i, layers[i].Name, err)
		}
	}
	if err := data.flush(); err != nil {
		return nil, err
	}
	if data.size > 0 {
		if err := weights.CloseAtomicallyReplace(); err != nil {
			return nil, err
		}
	}
	for i := range layers {
		files = append(files, path(i))
		if err := renameio.WriteFile(path(i), onnx[i], 0o644); err != nil {
			return nil, err
		}
	}
	return files, nil
}
