package models

import (
	"errors"
	"fmt"
)

// Errors that callers can match; each comes wrapped in the model, the node or tensor, and what is wrong with it.
var (
	// ErrCorrupt: the bytes are not a well-formed ONNX model.
	ErrCorrupt = errors.New("the ONNX model is corrupt; export or download it again")
	// ErrUnsupported: a well-formed model that uses something Terastal does not run.
	ErrUnsupported = errors.New("unsupported ONNX model")
	// ErrExternalData: external tensor data that is missing, short, or outside the model's folder.
	ErrExternalData = errors.New("external data must be complete and lie inside the model's folder")
	// ErrRuntime: ONNX Runtime is not started, or refused the model.
	ErrRuntime = errors.New("ONNX Runtime failed")
	// ErrGranularity: a granularity that does not parse or does not fit the model.
	ErrGranularity = errors.New("valid granularities are op, block, model, auto:DURATION (auto:200us) and " +
		"cuts:TENSOR,TENSOR")
	// ErrDims: Options.Dims names a dimension that the model does not have.
	ErrDims = errors.New("only symbolic dimensions of the model's inputs can be given a size")
	// ErrInput: input data that does not fit the model's inputs.
	ErrInput = errors.New("input data does not fit the model")
)

// fail is an error about the named model: what is wrong, then the class that errors.Is matches.
func fail(class error, model, format string, args ...any) error {
	return fmt.Errorf("model %s: %w: %w", model, fmt.Errorf(format, args...), class)
}

// quote bounds names that come from the file before they reach a message.
func quote(name string) string {
	const most = 80
	if len(name) > most {
		name = name[:most] + "..."
	}
	return fmt.Sprintf("%q", name)
}
