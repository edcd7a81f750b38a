// Serve answers HTTP requests with the models of a plan, each within its deadline or not at all:
//
//	serve out/plan.json FOLDER-OF-MODELS localhost:8080
//	curl --data-binary @image.raw localhost:8080/detector
//
// The body holds the model's inputs one after the other, as numbers in the
// machine's byte order. The answer says where each output is largest.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"

	"gorgonia.org/tensor"

	"github.com/terastal/terastal/models/dense"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 4 {
		log.Fatal("usage: serve PLAN FOLDER-OF-MODELS ADDRESS")
	}
	listener, err := net.Listen("tcp", os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	executor, err := runtime.Open(os.Args[1], runtime.OpenOptions{
		Options: runtime.Options{Policy: "terastal", Drop: sched.DropHopeless}, Root: os.Args[2],
	})
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /{model}", func(w http.ResponseWriter, r *http.Request) {
		answer, err := infer(r.Context(), executor, r.PathValue("model"), r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		json.NewEncoder(w).Encode(answer)
	})
	log.Printf("serving %q on %s", executor.Models(), listener.Addr())
	context.AfterFunc(ctx, func() { listener.Close() })
	http.Serve(listener, nil)
	executor.Close(ctx)
}

// infer runs one request: outcome, latency, and where each output is largest.
func infer(ctx context.Context, e *runtime.Executor, model string, body io.Reader) (map[string]any, error) {
	inputs := runtime.Tensors{}
	if m := e.Model(model); m != nil {
		for _, t := range m.Inputs() {
			data := make([]byte, t.Bytes())
			if _, err := io.ReadFull(body, data); err != nil {
				return nil, err
			}
			var err error
			if inputs[t.Name], err = dense.Of(t, data); err != nil {
				return nil, err
			}
		}
	}
	pending, err := e.Submit(ctx, model, inputs, runtime.RequestOptions{})
	if err != nil {
		return nil, err
	}
	r, err := pending.Wait(ctx)
	answer := map[string]any{"outcome": r.Outcome.String(), "reason": r.Reason, "latency_ms": r.Latency.Seconds() * 1e3}
	for name, t := range r.Outputs {
		if largest, err := t.Argmax(tensor.AllAxes); err == nil {
			answer[name] = largest.ScalarValue()
		}
	}
	return answer, err
}
