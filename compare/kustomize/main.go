// The real kustomize, to compare with: its build command many times in one process, and how long and how much
// memory it takes, as a library and as the unmodified command (which is built beside this from the same go.mod).
//
//	builds                      arguments of builds on stdin, a JSON list a line; what came of each on stdout, likewise
//	library TREE ROOT COUNT   builds the kustomization ROOT of the folder TREE, read into memory, again and again
//	once TREE ROOT            one build, then what the process has taken
//	command PROGRAM ROOT COUNT  runs `PROGRAM build ROOT` again and again
//	version, template         what kustomize asks helm: see helm.go
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"

	"sigs.k8s.io/kustomize/kustomize/v5/commands/build"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// What comes of one build; exactly one of the two is there.
type answer struct {
	Text  *string `json:"text,omitempty"`
	Error *string `json:"error,omitempty"`
}

// buildOnce runs the build command as `kustomize build FLAGS... FOLDER` would and returns what it prints.
func buildOnce(line string) (text string, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic: %v", panicked)
		}
	}()
	var args []string
	if err := json.Unmarshal([]byte(line), &args); err != nil {
		return "", fmt.Errorf("a line is a JSON list of arguments: %w", err)
	}
	var printed bytes.Buffer
	command := build.NewCmdBuild(filesys.MakeFsOnDisk(), build.MakeHelp("kustomize", "build"), &printed)
	command.SetArgs(args)
	command.SetOut(io.Discard)
	command.SetErr(io.Discard)
	command.SilenceErrors = true
	err = command.Execute()
	return printed.String(), err
}

func builds(out io.Writer) error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var result answer
		if text, err := buildOnce(in.Text()); err != nil {
			message := err.Error()
			result.Error = &message
		} else {
			result.Text = &text
		}
		if err := json.NewEncoder(out).Encode(result); err != nil {
			return err
		}
	}
	return in.Err()
}

func run(out io.Writer, args []string) error {
	count := func(at int) (int, error) { return strconv.Atoi(args[at]) }
	switch {
	case len(args) == 1 && args[0] == "builds":
		return builds(out)
	case len(args) > 0 && args[0] == "version":
		_, err := fmt.Fprintln(out, "v4.3.0")
		return err
	case len(args) > 0 && args[0] == "template":
		return template(out, args[1:])
	case len(args) == 4 && args[0] == "library":
		n, err := count(3)
		if err != nil {
			return err
		}
		return library(out, args[1], args[2], n)
	case len(args) == 3 && args[0] == "once":
		return once(out, args[1], args[2])
	case len(args) == 4 && args[0] == "command":
		n, err := count(3)
		if err != nil {
			return err
		}
		return command(out, args[1], args[2], n)
	}
	return fmt.Errorf("there is no such command: %q", args)
}

func main() {
	out := os.Stdout
	// Whatever kustomize itself says on the way is no answer.
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		os.Stdout = null
	}
	log.SetOutput(io.Discard)
	if err := run(out, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
