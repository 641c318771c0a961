package main

import (
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// load copies a folder into a file system in memory, below "/".
func load(folder string) (filesys.FileSystem, error) {
	memory := filesys.MakeFsInMemory()
	return memory, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		return memory.WriteFile("/"+filepath.ToSlash(name), content)
	})
}

// krustyBuild is the whole of what the command does for one folder: build and text.
func krustyBuild(files filesys.FileSystem, root string) ([]byte, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, root)
	if err != nil {
		return nil, err
	}
	return resources.AsYaml()
}

func library(out io.Writer, tree, root string, count int) error {
	files, err := load(tree)
	if err != nil {
		return err
	}
	// The first build fills what the library keeps for good: the schemas.
	text, err := krustyBuild(files, "/"+root)
	if err != nil {
		return err
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	seconds := make([]float64, count)
	for i := range seconds {
		start := time.Now()
		if _, err := krustyBuild(files, "/"+root); err != nil {
			return err
		}
		seconds[i] = time.Since(start).Seconds()
	}
	runtime.ReadMemStats(&after)
	return json.NewEncoder(out).Encode(map[string]any{
		"seconds":         seconds,
		"allocated_bytes": (after.TotalAlloc - before.TotalAlloc) / uint64(count),
		"allocations":     (after.Mallocs - before.Mallocs) / uint64(count),
		"text_bytes":      len(text),
	})
}

func once(out io.Writer, tree, root string) error {
	files, err := load(tree)
	if err != nil {
		return err
	}
	before := resident()
	if _, err := krustyBuild(files, "/"+root); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(map[string]any{"before_bytes": before, "peak_bytes": resident()})
}

// resident is the most memory that this process ever had, in bytes; 0 where the system does not say.
func resident() uint64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(status), "\n") {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			kibibytes, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return 0
			}
			return kibibytes * 1024
		}
	}
	return 0
}

func command(out io.Writer, program, root string, count int) error {
	seconds := make([]float64, count)
	var peak int64
	for i := range seconds {
		run := exec.Command(program, "build", root)
		start := time.Now()
		if err := run.Run(); err != nil {
			return err
		}
		seconds[i] = time.Since(start).Seconds()
		if usage, ok := run.ProcessState.SysUsage().(*syscall.Rusage); ok {
			peak = max(peak, usage.Maxrss*1024)
		}
	}
	return json.NewEncoder(out).Encode(map[string]any{"seconds": seconds, "peak_bytes": peak})
}
