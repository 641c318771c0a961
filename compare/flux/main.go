// What Flux's own packages make of a fleet repository, to compare with: how kustomize-controller builds each
// Kustomization of a cluster, and what values helm-controller gives to the chart of each HelmRelease.
//
//	stdin   a line for each cluster: {"tree": FOLDER, "path": PATH OF THE CLUSTER'S ROOT}
//	stdout  a line for each: {"units": {"NAMESPACE/NAME": {"objects": [...]} or {"error": "..."}},
//	                          "releases": {"NAMESPACE/NAME": {"values": {...}} or {"error": "..."}}}
//
// Or how healthy live objects are, by kstatus:
//
//	stdin   {"objects": [...]}
//	stdout  {"health": ["Current", ...]}, with "Unknown" where kstatus gives an error
//
// `apply KUBECONFIG` applies revisions to a cluster instead, as kustomize-controller does (see apply.go).
//
// There is no cluster otherwise: ConfigMaps and Secrets are those that the units render, as they are once everything is applied.
// The only source is the fleet repository itself, GitRepository flux-system/flux-system.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
)

type request struct {
	Tree    string            `json:"tree"`
	Path    string            `json:"path"`
	Objects []json.RawMessage `json:"objects"`
}

func serve(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var asked request
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		answer, err := answerTo(&asked)
		if err != nil {
			answer = &outcome{Error: err.Error()}
		}
		if err := json.NewEncoder(out).Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func answerTo(asked *request) (any, error) {
	if asked.Objects != nil {
		return healthOf(asked.Objects)
	}
	return cluster(asked.Tree, asked.Path)
}

func main() {
	out := os.Stdout
	// Whatever the packages say on the way is no answer.
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		os.Stdout = null
	}
	log.SetOutput(io.Discard)
	var err error
	if len(os.Args) == 3 && os.Args[1] == "apply" {
		err = serveApply(os.Args[2], os.Stdin, out)
	} else {
		err = serve(os.Stdin, out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
