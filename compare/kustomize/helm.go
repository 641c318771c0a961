package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"sigs.k8s.io/yaml"
)

// In place of helm: a ConfigMap of the values in each file, as helm reads them.
func template(out io.Writer, args []string) error {
	data := map[string]string{}
	for i := 0; i+1 < len(args); i++ {
		if args[i] != "-f" {
			continue
		}
		text, err := os.ReadFile(args[i+1])
		if err != nil {
			return err
		}
		values := map[string]any{}
		if err := yaml.Unmarshal(text, &values); err != nil {
			return fmt.Errorf("failed to parse values: %w", err)
		}
		printed, err := json.Marshal(values)
		if err != nil {
			return err
		}
		data[fmt.Sprintf("values-%d", len(data)+1)] = string(printed)
	}
	return json.NewEncoder(out).Encode(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]string{"name": "out"}, "data": data,
	})
}
