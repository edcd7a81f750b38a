package variants_test

import (
	"context"
	"fmt"
	"log"

	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/variants"
)

// Hold an implementation that was trained elsewhere against a layer of a
// network, on the user's data.
func ExampleNew() {
	var network *runtime.Network // split by models.Model.Split
	var data variants.Data       // inputs of the network
	m, err := models.Load("narrow.onnx", models.Options{})
	if err != nil {
		log.Fatal(err)
	}
	c, err := variants.New(&network.Layers[2], "rank 12", m)
	if err != nil {
		log.Fatal(err) // matches variants.ErrBoundary: not the layer's inputs and outputs
	}
	if err := c.Compare(context.Background(), network, data, nil); err != nil {
		log.Fatal(err) // matches variants.ErrNotFinite: it makes NaN or infinity
	}
	fmt.Printf("%s: error %.2g\n", c.String(), c.Error)
	u, err := c.Unit()
	if err != nil {
		log.Fatal(err)
	}
	network.Variants = map[int][]runtime.Unit{c.Layer: {u}}
	proof, err := variants.Prove(context.Background(), network, data, variants.Agreement(), variants.ProveOptions{})
	if err != nil {
		log.Fatal(err)
	}
	alone, _ := proof.Of(1)
	fmt.Printf("alone it keeps %.2f %% of the %s\n", 100*alone, proof.Metric)
}
